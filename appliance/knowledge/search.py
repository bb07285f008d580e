"""One search from question to passages: embed, retrieve on a thread, rerank if asked, say how well it fits.

Scores are relative to an answer's best passage; `relevance` makes them absolute. It is the mean of two
measures between 0 and 1: how near the nearest passage is, on the scale of what the embedder gives to
questions with their own and with other answers, and which share of the question's words, weighted by their
rarity, the best passage holds. A question about something else scores low on both.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence

import msgspec

from appliance.errors import HearthError, InvalidRequest
from appliance.knowledge.embedding import Embedding, ServedEmbedder
from appliance.knowledge.filters import Filter, holds
from appliance.knowledge.fusion import blended, scaled
from appliance.knowledge.retrieve import Candidate, Found, Query, Trace, Tuning, retrieve
from appliance.knowledge.transactions import read, write
from appliance.knowledge.views import Answer, BaseStatus
from appliance.language import speaks
from appliance.launch import EncoderModel
from appliance.principal import Principal
from appliance.store import bases, documents
from appliance.store.database import Connection, Database
from appliance.store.indexes import Indexes
from appliance.store.rows import Base, Counts
from appliance.store.terms import WordCounts
from appliance.workers.handles import EncoderHandle

TOUCH_SECONDS = 60.0
RERANKED = 20
RERANK_WEIGHT = 1.0


class Search:
    def __init__(
        self,
        database: Database,
        indexes: Indexes,
        embedding: Embedding,
        encoder: EncoderHandle | None,
        reranker: EncoderModel | None,
        reranks: bool,
        tuning: Tuning,
    ) -> None:
        self._database, self._indexes, self._embedding = database, indexes, embedding
        self._encoder, self._reranker, self._reranks = encoder, reranker, reranks
        self.tuning = tuning
        self._counts = WordCounts()
        self._touched: dict[str, float] = {}

    async def run(
        self,
        principal: Principal,
        base: str,
        queries: Sequence[str],
        limit: int,
        *,
        filter: Filter | None = None,
        rerank: bool | None = None,
    ) -> Answer:
        """The passages that answer the queries. Raises NotFound, InvalidRequest for an expired base."""
        trace = Trace()
        status = await read(
            self._database, lambda connection: BaseStatus(bases.get(connection, principal, base), Counts(), 0)
        )
        if status.has_expired:
            raise InvalidRequest("this knowledge base has expired", code="vector_store_expired")
        served = self._embedder_of(status.base)
        trace.mark("base")
        vectors = await self._embedding.embed(served, queries, "query")
        unrelated, related = await self._embedding.calibration(served)
        trace.mark("embedding")
        asked = [Query(text, vector) for text, vector in zip(queries, vectors, strict=True)]
        wants_rerank = self._reranks if rerank is None else rerank
        wanted = max(limit, RERANKED) if wants_rerank else limit

        def work(connection: Connection) -> Found:
            current = bases.get(connection, principal, base).edition
            index = self._indexes.get(connection, current.id)
            trace.mark("index")
            return retrieve(
                connection,
                index,
                current.id,
                asked,
                wanted,
                tuning=self.tuning,
                counts=self._counts,
                documents=None if filter is None else _fitting(connection, base, filter),
                trace=trace,
            )

        found = await read(self._database, work)
        ranked, warnings = found.candidates, tuple[str, ...]()
        if wants_rerank and ranked:
            ranked, warnings = await self._rerank(queries, ranked)
            trace.mark("rerank")
        await self._touch(base)
        nearness = min(1.0, max(0.0, (found.cosine - unrelated) / max(related - unrelated, 1e-6)))
        relevance = (nearness + found.coverage) / 2
        return Answer(
            candidates=tuple(
                msgspec.structs.replace(candidate, score=candidate.score * relevance)
                for candidate in ranked[:limit]
            ),
            relevance=relevance,
            seconds=trace.seconds,
            warnings=warnings,
        )

    async def _rerank(
        self, queries: Sequence[str], candidates: tuple[Candidate, ...]
    ) -> tuple[tuple[Candidate, ...], tuple[str, ...]]:
        """The first candidates ordered anew with a cross-encoder, where it reads the question's language."""
        if self._reranker is None or self._encoder is None:
            return candidates, ("no reranker is served; the passages are not reranked",)
        query = " ".join(queries)
        if not speaks(self._reranker.languages, query):
            return candidates, (
                f"{self._reranker.name} does not read the question's language; the passages are not reranked",
            )
        first, rest = candidates[:RERANKED], candidates[RERANKED:]
        scores = await self._encoder.rerank(
            self._reranker.name, query, tuple(candidate.hit.chunk.text for candidate in first)
        )
        by_pair = scaled(dict(enumerate(scores.logits)))
        by_fusion = scaled({place: candidate.score for place, candidate in enumerate(first)})
        order = blended([(1.0, by_fusion), (RERANK_WEIGHT, by_pair)])
        falling = sorted((candidate.score for candidate in first), reverse=True)
        again = [
            msgspec.structs.replace(first[place], score=score)
            for place, score in zip(order, falling, strict=True)
        ]
        return (*again, *rest), ()

    def _embedder_of(self, base: Base) -> ServedEmbedder:
        served = self._embedding.find(base.edition.fingerprint)
        if served is None:
            raise InvalidRequest(
                f"the knowledge base {base.name!r} was made with the embedder {base.edition.embedder}, which "
                "is not served now; serve it again, or run `hearth kb reindex`",
                code="embedder_changed",
            )
        return served

    async def _touch(self, base: str) -> None:
        """Note that the base was used; once a minute is enough for an expiry counted in days."""
        now = time.monotonic()
        if now - self._touched.get(base, -TOUCH_SECONDS) >= TOUCH_SECONDS:
            self._touched[base] = now
            with contextlib.suppress(HearthError):  # a full disk must not stop a search
                await write(self._database, lambda connection: bases.touch(connection, base))


def _fitting(connection: Connection, base: str, filter: Filter) -> list[int]:
    every = documents.attributes_of(connection, base)
    return [id for id, attributes in every.items() if holds(filter, attributes)]
