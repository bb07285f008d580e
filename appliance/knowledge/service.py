"""Knowledge bases as the rest of Hearth sees them: one object that puts the room's parts together.

`bases`, `documents`, `files` and `folders` are what a principal works on; `search` asks, `reindex` makes a
base anew. Blocking work runs on threads; the event loop only waits. What a principal may do is decided in
`store`, inside the query itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from appliance.config.schema import Knowledge as Settings
from appliance.errors import HearthError
from appliance.knowledge.answer_cache import AnswerCache
from appliance.knowledge.bases import Bases
from appliance.knowledge.carried import Carried, CarriedBase
from appliance.knowledge.documents import Documents
from appliance.knowledge.embedding import Embedding, ServedEmbedder
from appliance.knowledge.extract.messages import Limits
from appliance.knowledge.extraction import Extraction
from appliance.knowledge.files import Files
from appliance.knowledge.filters import Filter
from appliance.knowledge.folders import Folders
from appliance.knowledge.ingest import Ingest
from appliance.knowledge.reindex import Reindex
from appliance.knowledge.retrieve import Tuning
from appliance.knowledge.search import Search
from appliance.knowledge.transactions import read
from appliance.knowledge.views import Answer
from appliance.launch import EncoderModel
from appliance.principal import LOCAL, Principal
from appliance.store import bases, editions
from appliance.store.database import Connection, Database
from appliance.store.index import GRAPH_FROM
from appliance.store.indexes import Indexes
from appliance.store.lock import DirectoryLock
from appliance.store.migrations import migrate
from appliance.store.vector_cache import VectorCache
from appliance.workers.handles import EncoderHandle

log = logging.getLogger("hearth.knowledge")

SWEEP_SECONDS = 600.0


class Knowledge:
    """Opens its directory at once; raises SetupError when another process has it. `start` in a loop."""

    def __init__(
        self,
        directory: Path,
        cache: Path,
        program: Sequence[str],
        encoder: EncoderHandle | None,
        embedders: Sequence[ServedEmbedder],
        reranker: EncoderModel | None,
        settings: Settings,
        tuning: Tuning | None = None,
        graph_from: int = GRAPH_FROM,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = DirectoryLock(directory)
        database = self._database = Database(directory / "knowledge.db", migrate)
        database.write(_drop_abandoned_editions).result()
        indexes = self._indexes = Indexes(database, directory / "graphs", graph_from)
        self.cache = VectorCache(cache / "embeddings.db", settings.cache_entries)
        self._embedding = Embedding(encoder, embedders, self.cache)
        self._extraction = Extraction(program)
        limits = Limits(memory_bytes=settings.extract_memory_bytes, seconds=settings.extract_seconds)
        self.files = Files(database, directory / "uploads", settings.file_bytes)
        self._ingest = Ingest(database, indexes, self.files, self._extraction, self._embedding, limits)
        self.documents = Documents(database, self._ingest, settings.queue_documents)
        self.folders = Folders(database, self.files, self.documents, settings.file_bytes)
        self.bases = Bases(database, indexes, self._embedding, self.folders, settings)
        self._carried = Carried(directory / "carried.json", LOCAL, self.bases, self.documents, self.files)
        self._reindex = Reindex(database, indexes, self._ingest)
        self._search = Search(
            database,
            indexes,
            self._embedding,
            encoder,
            reranker,
            settings.rerank,
            tuning or Tuning(),
        )
        self.answers: AnswerCache[Any] = AnswerCache(settings.answer_cache_seconds)
        self._tasks: set[asyncio.Task[None]] = set()

    # Life

    def start(self, carried: Sequence[CarriedBase] = ()) -> None:
        """`carried`: bases that came with the installation, to be taken in if they were not yet."""
        self._ingest.start()
        self._tasks.add(asyncio.create_task(self._sweep()))
        self._tasks.add(asyncio.create_task(self.folders.start()))
        if carried:
            self._tasks.add(asyncio.create_task(self._carried.take_in(carried)))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.folders.stop()
        await self._ingest.stop()
        await self._extraction.stop()
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        self._indexes.close()
        self.cache.close()
        self._database.close()
        self._lock.release()

    # Use

    async def search(
        self,
        principal: Principal,
        base: str,
        queries: Sequence[str],
        limit: int,
        *,
        filter: Filter | None = None,
        rerank: bool | None = None,
    ) -> Answer:
        """The passages that answer the queries, best first; see `search.Search.run`."""
        return await self._search.run(principal, base, queries, limit, filter=filter, rerank=rerank)

    def tune(self, tuning: Tuning) -> None:
        """Weigh the stages of retrieval anew, from the next search on."""
        self._search.tuning = tuning

    async def reindex(self, principal: Principal, id: str, embedder: str | None = None) -> int:
        """Make the base's chunks and vectors anew, beside the old ones, and swap; how many documents."""
        base = await read(self._database, lambda connection: bases.get_owned(connection, principal, id))
        current = self._embedding.find(base.edition.fingerprint)
        served = self._embedding.get(embedder) if embedder else current or self._embedding.default()
        return await self._reindex.run(base, served)

    async def _sweep(self) -> None:
        """Remove expired files, now and then."""
        while True:
            try:
                await self.files.remove_expired()
            except HearthError as error:
                log.warning("expired files were not removed: %s", error.message)
            await asyncio.sleep(SWEEP_SECONDS)


def _drop_abandoned_editions(connection: Connection) -> None:
    """Editions that a reindex was building when its process ended."""
    for id in set(editions.all_ids(connection)) - bases.all_current_editions(connection):
        editions.remove(connection, id)
