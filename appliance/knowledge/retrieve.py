"""From a question to the passages that answer it: words and vectors, feedback, one ranking.

    1. the words' best chunks (BM25) and the vector's nearest, `depth` each;
    2. their blend; the vector moved towards its first few chunks, and searched again (feedback);
    3. the blend of all three; its best `limit` chunks.

Everything here runs on one snapshot of the store, in whatever thread calls. Nothing waits for a model: the
question's vector is given, and reranking is the caller's next step.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from appliance.knowledge.fusion import Ranking, blended, fed_back, reciprocal, scaled
from appliance.store import editions, terms
from appliance.store.database import Connection
from appliance.store.index import Index
from appliance.store.rows import Hit

Vector = NDArray[np.float32]


class Tuning(Struct, frozen=True, kw_only=True):
    """The weights; measured on Cranfield and XQuAD, see docs/KNOWLEDGE.md."""

    depth: int = 100
    word_weight: float = 1.0
    vector_weight: float = 1.3
    feedback_chunks: int = 4  # 0: no feedback
    feedback_temperature: float = 0.3
    feedback_weight: float = 1.3
    first_vector_weight: float = 0.5  # of the question's own vector, beside the moved one
    by_rank: bool = False  # add reciprocal ranks instead of scores


@dataclass
class Trace:
    """Seconds that each stage took."""

    seconds: dict[str, float] = field(default_factory=dict)
    _begun: float = field(default_factory=time.perf_counter)

    def mark(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._begun
        self._begun = now


class Candidate(Struct, frozen=True, kw_only=True):
    """A found chunk. `score`: 0 to 1 within this answer; `relevance`: how well the best one fits at all."""

    hit: Hit
    score: float
    cosine: float
    bm25: float


@dataclass(frozen=True)
class Query:
    """A question as text and as vector, of length 1."""

    text: str
    vector: Vector


class Found(Struct, frozen=True, kw_only=True):
    """The ranking, best first. `cosine` and `coverage` are the best that any candidate has: the nearness of
    its vector, and the share of the question's words, by weight, that it holds."""

    candidates: tuple[Candidate, ...]
    cosine: float
    coverage: float


def retrieve(
    connection: Connection,
    index: Index,
    edition: int,
    queries: Sequence[Query],
    limit: int,
    *,
    tuning: Tuning,
    counts: terms.WordCounts,
    documents: Sequence[int] | None,
    trace: Trace,
) -> Found:
    """The best chunks for all queries together; only of `documents` if given."""
    allowed = None if documents is None else editions.chunk_ids(connection, edition, documents)
    cosines: dict[int, float] = {}
    bm25: dict[int, float] = {}
    rankings: list[Ranking] = []
    coverage = 0.0
    for query in queries:
        words = terms.search(connection, edition, query.text, tuning.depth, counts, len(index), documents)
        trace.mark("words")
        by_words = {hit.chunk: hit.score for hit in words.ranked}
        ranking, near = _rank(index, query.vector, by_words, allowed, tuning, trace)
        rankings.append(ranking)
        for id, cosine in near.items():
            cosines[id] = max(cosine, cosines.get(id, -1.0))
        for id, score in by_words.items():
            bm25[id] = max(score, bm25.get(id, 0.0))
        coverage = max(coverage, words.coverage)
    total = blended([(1 / len(rankings), ranking) for ranking in rankings])
    hits = editions.hits(connection, edition, list(total)[:limit])
    trace.mark("texts")
    return Found(
        candidates=tuple(
            Candidate(
                hit=hit, score=total[hit.id], cosine=cosines.get(hit.id, 0.0), bm25=bm25.get(hit.id, 0.0)
            )
            for hit in hits
        ),
        cosine=max(cosines.values(), default=0.0),
        coverage=coverage,
    )


def _rank(
    index: Index,
    vector: Vector,
    by_words: dict[int, float],
    allowed: NDArray[np.int64] | None,
    tuning: Tuning,
    trace: Trace,
) -> tuple[dict[int, float], dict[int, float]]:
    """One query's ranking, its scores at most 1, and the cosines that were seen on the way."""
    scale = reciprocal if tuning.by_rank else scaled
    near = _nearest(index, vector, allowed, tuning.depth)
    trace.mark("vectors")
    parts: list[tuple[float, Ranking]] = [
        (tuning.word_weight, scale(by_words)),
        (tuning.vector_weight, scale(near)),
    ]
    ranking = blended(parts)
    if tuning.feedback_chunks and ranking:
        first = list(ranking)[: tuning.feedback_chunks]
        known = index.vectors(np.array(first, np.int64))
        first = [id for id in first if id in known]
        if first:
            scores = np.array([ranking[id] for id in first], np.float32)
            moved = fed_back(
                vector, np.stack([known[id] for id in first]), scores, tuning.feedback_temperature
            )
            parts = [
                parts[0],
                (tuning.feedback_weight, scale(_nearest(index, moved, allowed, tuning.depth))),
                (tuning.first_vector_weight, scale(near)),
            ]
            ranking = blended(parts)
        trace.mark("feedback")
    most = sum(weight for weight, _ in parts)
    if tuning.by_rank:
        most *= max(scale({0: 1.0}).values())
    return {id: score / most for id, score in ranking.items()}, near


def _nearest(index: Index, vector: Vector, allowed: NDArray[np.int64] | None, depth: int) -> dict[int, float]:
    ids, scores = index.search(vector, depth, allowed)
    return dict(zip(ids.tolist(), scores.tolist(), strict=True))
