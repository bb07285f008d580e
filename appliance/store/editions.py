"""Editions: the chunks of a base under one embedder, their vectors, and what changed since a generation.

A document's chunks come and go together, in the transaction that tells what became of the document. Chunk
ids are never used twice.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from appliance.errors import NotFound
from appliance.store import terms
from appliance.store.database import Connection
from appliance.store.rows import Chunk, Edition, Hit

REMEMBERED_GENERATIONS = 10_000
COLUMNS = "id, base, embedder, fingerprint, dimensions, generation, graph_generation, graph_digest"


class Changes(NamedTuple):
    """An edition's chunks since a generation: ids and vectors [n, dimensions] that came, ids that went."""

    generation: int
    added: NDArray[np.int64]
    vectors: NDArray[np.float32]
    removed: NDArray[np.int64]


def add(connection: Connection, base: str, embedder: str, fingerprint: str, dimensions: int) -> int:
    connection.execute(
        "INSERT INTO editions(base, embedder, fingerprint, dimensions, created_at) VALUES(?,?,?,?,?)",
        (base, embedder, fingerprint, dimensions, time.time()),
    )
    edition = connection.last_insert_rowid()
    terms.create(connection, edition)
    return edition


def get(connection: Connection, id: int) -> Edition:
    """Raises NotFound when the edition has been removed."""
    row: Any = connection.execute(f"SELECT {COLUMNS} FROM editions WHERE id = ?", (id,)).fetchone()  # noqa: S608
    if row is None:
        raise NotFound("the knowledge base has just been removed or made anew", param="vector_store_id")
    return Edition(**dict(zip(Edition.__struct_fields__, row, strict=True)))


def of_base(connection: Connection, base: str) -> list[int]:
    return [int(row[0]) for row in connection.execute("SELECT id FROM editions WHERE base = ?", (base,))]


def all_ids(connection: Connection) -> list[int]:
    return [int(row[0]) for row in connection.execute("SELECT id FROM editions")]


def remove(connection: Connection, id: int) -> None:
    connection.execute("DELETE FROM chunks WHERE edition = ?", (id,))
    connection.execute("DELETE FROM vectors WHERE edition = ?", (id,))
    connection.execute("DELETE FROM buried WHERE edition = ?", (id,))
    connection.execute("DELETE FROM editions WHERE id = ?", (id,))
    terms.drop(connection, id)


# Chunks


def add_chunks(
    connection: Connection, edition: int, document: int, chunks: Sequence[Chunk], vectors: NDArray[np.float32]
) -> None:
    """All chunks of a document, with their vectors [chunks, dimensions]."""
    assert len(chunks) == len(vectors)
    generation = _next_generation(connection, edition)
    if not chunks:
        return
    first = 0
    for place, chunk in enumerate(chunks):
        connection.execute(
            "INSERT INTO chunks(edition, document, begins, ends, page, heading, text) VALUES(?,?,?,?,?,?,?)",
            (edition, document, chunk.begins, chunk.ends, chunk.page, chunk.heading, chunk.text),
        )
        if place == 0:
            first = connection.last_insert_rowid()
    terms.add(
        connection,
        edition,
        ((first + place, chunk.heading, chunk.text) for place, chunk in enumerate(chunks)),
    )
    connection.execute(
        "INSERT INTO vectors VALUES(?,?,?,?,?,?)",
        (edition, document, first, len(chunks), generation, np.ascontiguousarray(vectors, "<f4").tobytes()),
    )


def bury(connection: Connection, edition: int, document: int) -> None:
    """Take a document's chunks out."""
    row: Any = connection.execute(
        "SELECT first_chunk, count FROM vectors WHERE edition = ? AND document = ?", (edition, document)
    ).fetchone()
    if row is None:
        return
    generation = _next_generation(connection, edition)
    terms.remove(connection, edition, row[0], row[1])
    connection.execute("DELETE FROM chunks WHERE document = ? AND edition = ?", (document, edition))
    connection.execute("DELETE FROM vectors WHERE edition = ? AND document = ?", (edition, document))
    connection.execute("INSERT INTO buried VALUES(?,?,?,?)", (edition, row[0], row[1], generation))
    connection.execute(
        "DELETE FROM buried WHERE edition = ? AND died <= ?", (edition, generation - REMEMBERED_GENERATIONS)
    )


def hits(connection: Connection, edition: int, ids: Sequence[int]) -> list[Hit]:
    """The chunks with these ids, in that order; those that have just gone are left out."""
    rows = connection.execute(
        "SELECT c.id, c.document, d.file, f.name, d.attributes, c.begins, c.ends, c.page, c.heading, c.text"
        " FROM json_each(?) j JOIN chunks c ON c.id = j.value AND c.edition = ?"
        " JOIN documents d ON d.id = c.document JOIN files f ON f.id = d.file",
        (msgspec.json.encode(list(ids)).decode(), edition),
    )
    found = {int(row[0]): _hit(row) for row in rows}
    return [found[id] for id in ids if id in found]


def chunks_of(connection: Connection, edition: int, document: int) -> list[Chunk]:
    rows = connection.execute(
        "SELECT begins, ends, page, heading, text FROM chunks WHERE document = ? AND edition = ? ORDER BY id",
        (document, edition),
    )
    return [Chunk(**dict(zip(Chunk.__struct_fields__, row, strict=True))) for row in rows]


def chunk_ids(connection: Connection, edition: int, documents: Sequence[int]) -> NDArray[np.int64]:
    """The ids of all chunks of these documents, ascending."""
    rows = connection.execute(
        "SELECT v.first_chunk, v.count FROM json_each(?) j JOIN vectors v"
        " ON v.edition = ? AND v.document = j.value",
        (msgspec.json.encode(list(documents)).decode(), edition),
    )
    return np.sort(_ids(rows.fetchall()))


def count_chunks(connection: Connection, edition: int) -> int:
    row = connection.execute(
        "SELECT coalesce(sum(count), 0) FROM vectors WHERE edition = ?", (edition,)
    ).fetchone()
    assert row is not None
    return int(row[0])


def missing_documents(connection: Connection, base: str, edition: int, limit: int) -> list[int]:
    """Completed documents of the base that have no chunks in the edition, though they have text."""
    rows = connection.execute(
        "SELECT d.id FROM documents d JOIN texts t ON t.document = d.id"
        " WHERE d.base = ? AND d.status = 'completed' AND t.text <> '' AND NOT EXISTS"
        " (SELECT 1 FROM vectors v WHERE v.edition = ? AND v.document = d.id) ORDER BY d.id LIMIT ?",
        (base, edition, limit),
    )
    return [int(row[0]) for row in rows]


# Generations


def generation(connection: Connection, edition: int) -> int:
    """Raises NotFound when the edition has been removed."""
    row = connection.execute("SELECT generation FROM editions WHERE id = ?", (edition,)).fetchone()
    if row is None:
        raise NotFound("the knowledge base has just been removed or made anew", param="vector_store_id")
    return int(row[0])


def changes(connection: Connection, edition: Edition, since: int) -> Changes:
    """What came and went after generation `since`; from 0, all that is there and nothing that went.

    `since` is 0 or at most REMEMBERED_GENERATIONS ago.
    """
    now = generation(connection, edition.id)
    rows: list[Any] = connection.execute(
        "SELECT first_chunk, count, data FROM vectors WHERE edition = ? AND born > ? ORDER BY first_chunk",
        (edition.id, since),
    ).fetchall()
    gone = connection.execute(
        "SELECT first_chunk, count FROM buried WHERE edition = ? AND died > ?", (edition.id, since)
    ).fetchall()
    vectors = np.frombuffer(b"".join(row[2] for row in rows), "<f4").reshape(-1, edition.dimensions)
    return Changes(now, _ids([row[:2] for row in rows]), vectors, _ids(gone) if since else _ids([]))


def set_graph(connection: Connection, edition: int, generation: int, digest: str) -> None:
    """A graph file of that generation is on the disk: what died before it need not be remembered."""
    connection.execute(
        "UPDATE editions SET graph_generation = ?, graph_digest = ? WHERE id = ?",
        (generation, digest, edition),
    )
    connection.execute("DELETE FROM buried WHERE edition = ? AND died <= ?", (edition, generation))


def _next_generation(connection: Connection, edition: int) -> int:
    connection.execute("UPDATE editions SET generation = generation + 1 WHERE id = ?", (edition,))
    return generation(connection, edition)


def _ids(ranges: Sequence[Any]) -> NDArray[np.int64]:
    if not ranges:
        return np.empty(0, np.int64)
    return np.concatenate([np.arange(first, first + count, dtype=np.int64) for first, count in ranges])


def _hit(row: Sequence[Any]) -> Hit:
    return Hit(
        id=row[0],
        document=row[1],
        file=row[2],
        name=row[3],
        attributes=msgspec.json.decode(row[4]),
        chunk=Chunk(begins=row[5], ends=row[6], page=row[7], heading=row[8], text=row[9]),
    )
