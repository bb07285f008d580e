"""BM25 over an edition's chunks: one FTS5 table per edition, without a second copy of the text.

`segment` decides what a word is, alike for chunks and queries. A query costs at most `POSTINGS` entries of
the index: of its words those that stand in the fewest chunks are taken until that is spent, because a word
that is everywhere costs the most and tells the least.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Sequence
from typing import NamedTuple, cast

import msgspec

from appliance.store.database import Connection
from appliance.store.segment import query_words, segmented

HEADING_WEIGHT = 1.0
QUERY_WORDS = 64
POSTINGS = 3_000  # some 1.5 ms
REMEMBERED_COUNTS = 50_000


SATURATED = 1.2  # what a word adds to BM25 where it stands as often as in the average chunk
FEW_CHUNKS = 200


class Ranked(NamedTuple):
    """A chunk and its BM25 score; higher is better."""

    chunk: int
    score: float


class Found(NamedTuple):
    """The ranked chunks, and which share of the query's words, by their idf, the best of them holds."""

    ranked: list[Ranked]
    coverage: float


def create(connection: Connection, edition: int) -> None:
    connection.execute(
        f"CREATE VIRTUAL TABLE terms_{edition:d} USING fts5(heading, body, content='', contentless_delete=1,"
        " tokenize='porter unicode61 remove_diacritics 2')"
    )


def drop(connection: Connection, edition: int) -> None:
    connection.execute(f"DROP TABLE terms_{edition:d}")


def add(connection: Connection, edition: int, entries: Iterable[tuple[int, str, str]]) -> None:
    """Index (chunk id, heading, text) entries."""
    connection.executemany(
        f"INSERT INTO terms_{edition:d}(rowid, heading, body) VALUES(?, ?, ?)",
        ((id, segmented(heading), segmented(text)) for id, heading, text in entries),
    )


def remove(connection: Connection, edition: int, first_chunk: int, count: int) -> None:
    connection.execute(
        f"DELETE FROM terms_{edition:d} WHERE rowid >= ? AND rowid < ?",  # noqa: S608
        (first_chunk, first_chunk + count),
    )


class WordCounts:
    """In how many chunks a word stands, POSTINGS or more being all the same; remembered for a while, so a
    count may lag behind the index, as a cost may."""

    def __init__(self) -> None:
        self._counts: dict[tuple[int, str], int] = {}
        self._lock = threading.Lock()

    def of(self, connection: Connection, edition: int, word: str, stem: str) -> int:
        key = (edition, stem)
        with self._lock:
            if (known := self._counts.get(key)) is not None:
                return known
        row = connection.execute(
            f"SELECT count(*) FROM (SELECT 1 FROM terms_{edition:d} WHERE terms_{edition:d} MATCH ? LIMIT ?)",  # noqa: S608
            (f'"{word}"', POSTINGS),
        ).fetchone()
        count = int(row[0]) if row else 0
        with self._lock:
            if len(self._counts) >= REMEMBERED_COUNTS:
                self._counts.clear()
            self._counts[key] = count
        return count


def search(
    connection: Connection,
    edition: int,
    query: str,
    limit: int,
    counts: WordCounts,
    total: int,
    documents: Sequence[int] | None = None,
) -> Found:
    """The best chunks by BM25, best first; only of `documents` if given. `total`: chunks in the edition."""
    stems = _stems(connection, query_words(query, QUERY_WORDS))
    known = {word: counts.of(connection, edition, word, stem) for word, stem in stems.items()}
    weights = {
        word: math.log((total - min(count, total) + 0.5) / (count + 0.5) + 1) for word, count in known.items()
    }
    words = _affordable(known)
    if not words:
        return Found([], 0.0)
    expression = " OR ".join(f'"{word}"' for word in words)
    condition, more = "", cast("tuple[str | int, ...]", ())
    if documents is not None:
        condition = (
            " AND rowid IN (SELECT c.id FROM json_each(?) j JOIN chunks c"
            " ON c.document = j.value AND c.edition = ?)"
        )
        more = (msgspec.json.encode(documents).decode(), edition)
    rows = connection.execute(
        f"SELECT rowid, -bm25(terms_{edition:d}, {HEADING_WEIGHT}, 1.0) AS score FROM terms_{edition:d}"  # noqa: S608
        f" WHERE terms_{edition:d} MATCH ?{condition} ORDER BY score DESC LIMIT ?",
        (expression, *more, limit),
    )
    ranked = [Ranked(int(row[0]), float(row[1])) for row in rows]
    if not ranked:
        return Found([], 0.0)
    if total < FEW_CHUNKS:
        held = _weight_held(connection, edition, ranked[0].chunk, weights)
    else:
        held = ranked[0].score / SATURATED
    return Found(ranked, min(1.0, held / sum(weights.values())))


def _weight_held(connection: Connection, edition: int, chunk: int, weights: dict[str, float]) -> float:
    """The weight of the words that the chunk holds. Among few chunks BM25's own idf says nothing: what stands
    in half of them is worth nothing to it."""
    statement = f"SELECT 1 FROM terms_{edition:d} WHERE rowid = ? AND terms_{edition:d} MATCH ?"  # noqa: S608
    return sum(
        weight
        for word, weight in weights.items()
        if connection.execute(statement, (chunk, f'"{word}"')).fetchone() is not None
    )


def _affordable(counts: dict[str, int]) -> list[str]:
    """The words worth their cost, rarest first; always at least one that stands anywhere."""
    chosen: list[str] = []
    spent = 0
    for word, cost in sorted(counts.items(), key=lambda entry: entry[1]):
        if cost == 0:
            continue
        spent += cost
        if chosen and spent > POSTINGS:
            break
        chosen.append(word)
    return chosen


def _stems(connection: Connection, words: list[str]) -> dict[str, str]:
    """Each word as the index holds it. Words that become the same stem are one."""
    tokenize = connection.fts5_tokenizer("porter", ["unicode61", "remove_diacritics", "2"])
    found: dict[str, str] = {}
    for word in words:
        tokens = cast(
            "list[tuple[str, ...]]", tokenize(word.encode(), TOKENIZE_QUERY, None, include_offsets=False)
        )
        stem = tokens[0][0] if tokens else ""
        if stem and stem not in found.values():
            found[word] = stem
    return found


TOKENIZE_QUERY = 1  # FTS5_TOKENIZE_QUERY of SQLite's fts5.h
