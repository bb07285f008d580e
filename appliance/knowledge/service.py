"""Knowledge bases as the rest of Hearth sees them: one object, every call on somebody's behalf.

Puts the rooms' parts together: files, ingest, retrieval, reindex. Blocking work runs on threads; the event
loop only waits. What a principal may do is decided in `store`, inside the query itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from appliance.config.schema import Knowledge as Settings
from appliance.errors import InvalidValue, Overloaded
from appliance.knowledge.answer_cache import AnswerCache
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
from appliance.knowledge.views import Answer, BaseStatus, Chunking, NewDocument
from appliance.records import EncoderModel
from appliance.store import bases, documents, editions, files
from appliance.store.database import Connection, Database
from appliance.store.index import GRAPH_FROM
from appliance.store.indexes import Indexes
from appliance.store.lock import DirectoryLock
from appliance.store.migrations import migrate
from appliance.store.rows import (
    Attributes,
    Base,
    Batch,
    Counts,
    Document,
    Edition,
    Page,
    Principal,
    StoredFile,
)
from appliance.store.vector_cache import VectorCache
from appliance.workers.handles import EncoderHandle

log = logging.getLogger("hearth.knowledge")

Result = TypeVar("Result")

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
        self._settings = settings
        self._database = Database(directory / "knowledge.db", migrate)
        self._drop_abandoned_editions()
        self._indexes = Indexes(self._database, directory / "graphs", graph_from)
        self.cache = VectorCache(cache / "embeddings.db", settings.cache_entries)
        self.files = Files(self._database, directory / "uploads", settings.file_bytes)
        self._embedding = Embedding(encoder, embedders, self.cache)
        self._extraction = Extraction(program)
        limits = Limits(memory_bytes=settings.extract_memory_bytes, seconds=settings.extract_seconds)
        self._ingest = Ingest(
            self._database, self._indexes, self.files, self._extraction, self._embedding, limits
        )
        self.folders = Folders(
            self._database, self.files, settings.file_bytes, self.add_documents, self.remove_file
        )
        self._reindex = Reindex(self._database, self._indexes, self._ingest)
        self._search = Search(
            self._database,
            self._indexes,
            self._embedding,
            encoder,
            reranker,
            settings.rerank,
            tuning or Tuning(),
        )
        self.answers: AnswerCache[Any] = AnswerCache(settings.answer_cache_seconds)
        self._tasks: set[asyncio.Task[None]] = set()

    # Life

    def start(self) -> None:
        self._ingest.start()
        self._tasks.add(asyncio.create_task(self._sweep()))
        self._tasks.add(asyncio.create_task(self.folders.start()))

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

    # Bases

    async def create_base(
        self,
        principal: Principal,
        name: str,
        *,
        description: str = "",
        metadata: dict[str, str] | None = None,
        expires_days: int | None = None,
        chunking: Chunking | None = None,
        embedder: str | None = None,
        unique: bool = False,
    ) -> Base:
        """Raises ModelNotFound or Unavailable without a fitting embedder, InvalidValue for a taken name."""
        chosen = embedder or self._settings.embedder
        served = self._embedding.get(chosen) if chosen else self._embedding.default()
        sizes = chunking or self.default_chunking
        id, now = f"vs_{secrets.token_hex(12)}", time.time()
        nothing = Edition(
            id=0,
            base=id,
            embedder=served.model.name,
            fingerprint=served.fingerprint,
            dimensions=served.model.dimensions,
            generation=0,
            graph_generation=0,
            graph_digest="",
        )
        base = Base(
            id=id,
            owner=principal.id,
            name=name,
            description=description,
            metadata=metadata or {},
            created_at=now,
            active_at=now,
            expires_days=expires_days,
            chunk_tokens=sizes.tokens,
            overlap_tokens=sizes.overlap,
            edition=nothing,
        )

        def work(connection: Connection) -> Base:
            if unique and bases.is_name_taken(connection, principal, name):
                raise InvalidValue(f"there is a knowledge base {name!r} already", param="name")
            bases.add(connection, base)
            edition = editions.add(connection, id, nothing.embedder, nothing.fingerprint, nothing.dimensions)
            bases.set_edition(connection, id, edition)
            return msgspec.structs.replace(base, edition=editions.get(connection, edition))

        return await self._write(work)

    @property
    def default_chunking(self) -> Chunking:
        return Chunking(self._settings.chunk_tokens, self._settings.overlap_tokens)

    def most_chunk_tokens(self, base: Base | None = None) -> int:
        """The longest chunk that the base's embedder takes with room for its headings."""
        served = self._embedding.find(base.edition.fingerprint) if base else None
        chosen = served or self._embedding.default()
        return chosen.model.max_tokens - RESERVED_TOKENS

    async def status(self, principal: Principal, id: str) -> BaseStatus:
        return await self._read(lambda connection: _status(connection, bases.get(connection, principal, id)))

    async def find(self, principal: Principal, name: str) -> Base:
        """By name or id. Raises NotFound, or InvalidValue when several have the name."""
        return await self._read(lambda connection: bases.find(connection, principal, name))

    async def list_bases(self, principal: Principal, page: Page) -> tuple[list[BaseStatus], bool]:
        def work(connection: Connection) -> tuple[list[BaseStatus], bool]:
            found, has_more = bases.find_page(connection, principal, page)
            return [_status(connection, base) for base in found], has_more

        return await self._read(work)

    async def update_base(
        self,
        principal: Principal,
        id: str,
        *,
        name: str | None = None,
        metadata: dict[str, str] | None = None,
        expires_days: int | None = None,
        keeps_expiry: bool = True,
    ) -> BaseStatus:
        def work(connection: Connection) -> BaseStatus:
            base = bases.get_owned(connection, principal, id)
            bases.update(
                connection,
                base.id,
                name=name,
                metadata=metadata,
                expires_days=expires_days,
                keeps_expiry=keeps_expiry,
            )
            return _status(connection, bases.get(connection, principal, id))

        return await self._write(work)

    async def share_base(self, principal: Principal, id: str, readers: tuple[str, ...]) -> None:
        """Who else may read the base; `*` is everyone."""

        def work(connection: Connection) -> None:
            bases.set_readers(connection, bases.get_owned(connection, principal, id).id, readers)

        await self._write(work)

    async def remove_base(self, principal: Principal, id: str) -> None:
        """The files stay: they belong to whoever uploaded them."""

        def work(connection: Connection) -> list[int]:
            base = bases.get_owned(connection, principal, id)
            return _drop_base(connection, base.id)

        await self.folders.end_all(principal, id)
        for edition in await self._write(work):
            await asyncio.to_thread(self._indexes.forget, edition)

    # Documents

    async def add_documents(
        self, principal: Principal, base: str, new: Sequence[NewDocument], *, batch: bool = False
    ) -> tuple[list[Document], Batch | None]:
        """Queue files for a base; durable when this returns. Raises NotFound, InvalidValue, Overloaded."""
        now = time.time()

        def work(connection: Connection) -> tuple[list[Document], Batch | None]:
            owned = bases.get_owned(connection, principal, base)
            if documents.count_waiting(connection) + len(new) > self._settings.queue_documents:
                raise Overloaded(
                    f"{self._settings.queue_documents} documents are waiting to be read already",
                    retry_after=10,
                )
            made = Batch(id=f"vsfb_{secrets.token_hex(12)}", base=base, created_at=now) if batch else None
            if made is not None:
                documents.add_batch(connection, made)
            added = []
            for place, item in enumerate(new):
                file = files.get(connection, principal, item.file)
                sizes = item.chunking or Chunking(owned.chunk_tokens, owned.overlap_tokens)
                documents.add(
                    connection,
                    base=base,
                    file=file.id,
                    batch=made.id if made else "",
                    attributes=item.attributes,
                    chunk_tokens=sizes.tokens,
                    overlap_tokens=sizes.overlap,
                    created_at=now + place * 1e-6,  # so that a list by age keeps the order given
                )
                added.append(documents.get(connection, base, file.id))
            bases.touch(connection, base)
            return added, made

        result = await self._write(work)
        self._ingest.wake()
        return result

    async def document(self, principal: Principal, base: str, file: str) -> Document:
        return await self._read(
            lambda connection: documents.get(connection, bases.get(connection, principal, base).id, file)
        )

    async def list_documents(
        self, principal: Principal, base: str, page: Page, *, status: str = "", batch: str = ""
    ) -> tuple[list[Document], bool]:
        def work(connection: Connection) -> tuple[list[Document], bool]:
            bases.get(connection, principal, base)
            if batch:
                documents.get_batch(connection, base, batch)
            return documents.find_page(connection, base, page, status=status, batch=batch)

        return await self._read(work)

    async def document_text(self, principal: Principal, base: str, file: str) -> tuple[Document, str]:
        """The text that was read out of the document."""

        def work(connection: Connection) -> tuple[Document, str]:
            found = documents.get(connection, bases.get(connection, principal, base).id, file)
            return found, documents.text(connection, found.id)[0]

        return await self._read(work)

    async def set_attributes(
        self, principal: Principal, base: str, file: str, attributes: Attributes
    ) -> Document:
        def work(connection: Connection) -> Document:
            found = documents.get(connection, bases.get_owned(connection, principal, base).id, file)
            documents.set_attributes(connection, found.id, attributes)
            return documents.get(connection, base, file)

        return await self._write(work)

    async def remove_document(self, principal: Principal, base: str, file: str) -> None:
        """Take a file out of a base; the file itself stays."""

        def work(connection: Connection) -> None:
            found = documents.get(connection, bases.get_owned(connection, principal, base).id, file)
            _drop_document(connection, found)

        await self._write(work)

    async def batch(self, principal: Principal, base: str, id: str) -> tuple[Batch, Counts]:
        def work(connection: Connection) -> tuple[Batch, Counts]:
            found = documents.get_batch(connection, bases.get(connection, principal, base).id, id)
            return found, documents.counts(connection, base, id)

        return await self._read(work)

    async def cancel_batch(self, principal: Principal, base: str, id: str) -> tuple[Batch, Counts]:
        """End what has not been read yet."""

        def work(connection: Connection) -> tuple[Batch, Counts]:
            found = documents.get_batch(connection, bases.get_owned(connection, principal, base).id, id)
            documents.cancel_batch(connection, id)
            return found, documents.counts(connection, base, id)

        return await self._write(work)

    # Files

    async def file(self, principal: Principal, id: str) -> StoredFile:
        return await self._read(lambda connection: files.get(connection, principal, id))

    async def list_files(
        self, principal: Principal, page: Page, purpose: str = ""
    ) -> tuple[list[StoredFile], bool]:
        return await self._read(lambda connection: files.find_page(connection, principal, page, purpose))

    async def remove_file(self, principal: Principal, id: str) -> None:
        """Take the file, and what was made of it out of every base."""

        def work(connection: Connection) -> None:
            file = files.get(connection, principal, id)
            for found in documents.of_file(connection, file.id):
                _drop_document(connection, found)

        await self._write(work)
        await self.files.remove(id)

    # Search

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

    # Upkeep

    async def reindex(self, principal: Principal, id: str, embedder: str | None = None) -> int:
        """Make the base's chunks and vectors anew, beside the old ones, and swap; how many documents."""
        base = await self._read(lambda connection: bases.get_owned(connection, principal, id))
        current = self._embedding.find(base.edition.fingerprint)
        served = self._embedding.get(embedder) if embedder else current or self._embedding.default()
        return await self._reindex.run(base, served)

    async def wait_until_read(self, principal: Principal, base: str) -> Counts:
        """Until no document of the base is in progress."""
        while True:
            status = await self.status(principal, base)
            if status.counts.in_progress == 0:
                return status.counts
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ingest.wait_for_some(), 1.0)

    async def _sweep(self) -> None:
        """Remove expired files, now and then."""
        while True:
            now = time.time()
            for id in await self._read(functools.partial(files.expired_ids, now=now)):

                def drop(connection: Connection, id: str = id) -> None:
                    for found in documents.of_file(connection, id):
                        _drop_document(connection, found)

                await self._write(drop)
                await self.files.remove(id)
            await asyncio.sleep(SWEEP_SECONDS)

    def _drop_abandoned_editions(self) -> None:
        """Editions that a reindex was building when its process ended."""

        def work(connection: Connection) -> None:
            for id in set(editions.all_ids(connection)) - bases.all_current_editions(connection):
                editions.remove(connection, id)

        self._database.write(work).result()

    async def _read(self, work: Callable[[Connection], Result]) -> Result:
        return await asyncio.to_thread(self._database.read, work)

    async def _write(self, work: Callable[[Connection], Result]) -> Result:
        return await asyncio.wrap_future(self._database.write(work))


RESERVED_TOKENS = 64  # of the embedder's limit: special tokens, prefix and headings


def _status(connection: Connection, base: Base) -> BaseStatus:
    return BaseStatus(base, documents.counts(connection, base.id), bases.usage_bytes(connection, base.id))


def _drop_document(connection: Connection, document: Document) -> None:
    for edition in editions.of_base(connection, document.base):
        editions.bury(connection, edition, document.id)
    documents.remove(connection, document.id)


def _drop_base(connection: Connection, id: str) -> list[int]:
    gone = editions.of_base(connection, id)
    for edition in gone:
        editions.remove(connection, edition)
    bases.remove(connection, id)
    return gone
