"""From a file in a base to chunks that can be found: read, chunk, embed, commit, a few documents at once.

The queue is the database: a document waits there as `in_progress` until the transaction that holds its text,
its chunks and its vectors also says `completed`. So nothing is acknowledged before it is on the disk, and a
crash at any moment means doing one document again. While some documents are embedded the next is being read.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from appliance.errors import HearthError, InternalError, Overloaded, StorageFull, Unavailable
from appliance.knowledge.chunk import embedded_text
from appliance.knowledge.embedding import Embedding, ServedEmbedder
from appliance.knowledge.extract.messages import Job, Limits, Pieces, Refusal, Reply
from appliance.knowledge.extraction import Extraction
from appliance.knowledge.files import Files
from appliance.knowledge.transactions import read as read_store
from appliance.knowledge.transactions import write
from appliance.store import bases, documents, editions, files
from appliance.store.database import Connection, Database
from appliance.store.indexes import Indexes
from appliance.store.rows import Chunk, Document, Edition

log = logging.getLogger("hearth.knowledge")

READ_AHEAD = 2
AT_ONCE = 4  # documents being embedded: small ones share the encoder's batches
RETRY_SECONDS = 2.0
EMBED_AT_ONCE = 256  # chunks


class _Read(NamedTuple):
    """A document that has been read, for the edition and embedder that were current then."""

    document: Document
    edition: Edition
    served: ServedEmbedder | None
    reply: Reply


class _Superseded(Exception):
    """The base was made anew with another embedder while a document was being embedded with the old one."""

    def __init__(self, edition: Edition) -> None:
        super().__init__(edition.base)
        self.edition = edition


class Ingest:
    """`start` in a running event loop; `stop` ends after the document's present step, losing nothing."""

    def __init__(
        self,
        database: Database,
        indexes: Indexes,
        files: Files,
        extraction: Extraction,
        embedding: Embedding,
        limits: Limits,
    ) -> None:
        self._database, self._indexes, self._files = database, indexes, files
        self._extraction, self._embedding, self._limits = extraction, embedding, limits
        self._wake = asyncio.Event()
        self._finished = asyncio.Event()
        self._read: asyncio.Queue[_Read] = asyncio.Queue(READ_AHEAD)
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._read_all())]
        self._tasks += [asyncio.create_task(self._commit_all()) for _ in range(AT_ONCE)]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._tasks = []

    def wake(self) -> None:
        """There are new documents."""
        self._wake.set()

    async def wait_for_some(self) -> None:
        """Until some document has been finished, well or not."""
        await self._finished.wait()

    async def prepare(
        self, served: ServedEmbedder, job: Job, name: str
    ) -> tuple[Pieces, list[Chunk], NDArray[np.float32]] | Refusal:
        """The job's text with its chunks and their vectors. Raises what the embedder raises."""
        reply = await self._extraction.run(job)
        return reply if isinstance(reply, Refusal) else (reply, *await self._embed(served, reply))

    def job(self, document: Document, served: ServedEmbedder, text: str = "", spans: bytes = b"") -> Job:
        """How to read the document's file; or, given its text, to chunk that anew."""
        return Job(
            path="" if text else str(self._files.path(document.file)),
            name=document.name,
            measure=served.measure,
            chunk_tokens=document.chunk_tokens,
            overlap_tokens=document.overlap_tokens,
            limits=self._limits,
            text=text,
            spans=spans,
        )

    # Reading ahead

    async def _read_all(self) -> None:
        last = 0
        while True:
            self._wake.clear()
            try:
                found = await read_store(self._database, functools.partial(_next, after=last))
            except HearthError as error:
                log.warning("the queue of documents cannot be read: %s", error.message)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if found is None:
                await self._wake.wait()
                continue
            document, edition = found
            last = document.id
            await self._read.put(await self._read_one(document, edition))

    async def _read_one(self, document: Document, edition: Edition) -> _Read:
        served = self._embedding.find(edition.fingerprint)
        if served is None:
            reply: Reply = Refusal(
                "server_error",
                f"the knowledge base was made with the embedder {edition.embedder}, which is not served now; "
                "serve it again, or run `hearth kb reindex`",
            )
        else:
            reply = await self._extraction.run(self.job(document, served))
        return _Read(document, edition, served, reply)

    # Embedding and committing

    async def _commit_all(self) -> None:
        while True:
            read = await self._read.get()
            document = read.document
            while True:
                try:
                    await self._finish(read)
                    break
                except _Superseded as change:
                    read = await self._read_one(document, change.edition)
                except (StorageFull, Unavailable, Overloaded) as error:
                    # The disk may be freed, the encoder may come back: the document waits as it is.
                    log.warning("%s waits: %s", document.name, error.message)
                    await asyncio.sleep(RETRY_SECONDS)
                except Exception as error:
                    log.exception("%s failed", document.name)
                    message = (
                        error.message if isinstance(error, HearthError) else "an internal error occurred"
                    )
                    read = read._replace(reply=Refusal("server_error", message))
            self._finished.set()
            self._finished = asyncio.Event()

    async def _finish(self, read: _Read) -> None:
        document, reply = read.document, read.reply
        if isinstance(reply, Refusal):
            await self._fail(document, reply)
            return
        assert read.served is not None
        chunks, vectors = await self._embed(read.served, reply)
        gone = await write(
            self._database,
            lambda connection: _commit(connection, document, read.edition, reply, chunks, vectors),
        )
        if gone is not None:
            await asyncio.to_thread(self._indexes.refresh, read.edition.id)
            self._files.erase(gone)

    async def _embed(self, served: ServedEmbedder, reply: Pieces) -> tuple[list[Chunk], NDArray[np.float32]]:
        chunks = [
            Chunk(begins=begins, ends=ends, page=page, heading=heading, text=reply.text[begins:ends])
            for begins, ends, page, heading in reply.pieces
        ]
        parts = []
        for begin in range(0, len(chunks), EMBED_AT_ONCE):
            texts = [
                embedded_text(chunk.heading, chunk.text) for chunk in chunks[begin : begin + EMBED_AT_ONCE]
            ]
            parts.append(await self._embedding.embed(served, texts, "passage"))
        if not parts:
            raise InternalError("a text without chunks reached the embedder")
        return chunks, np.concatenate(parts)

    async def _fail(self, document: Document, refusal: Refusal) -> None:
        """What it was to replace goes all the same: that is not what the file says any more."""

        def work(connection: Connection) -> list[str]:
            is_new = documents.set_status(connection, document.id, "failed", refusal.code, refusal.message)
            return files.drop(connection, document.replaces) if is_new else []

        self._files.erase(await write(self._database, work))


def _next(connection: Connection, after: int) -> tuple[Document, Edition] | None:
    document = documents.next_waiting(connection, after)
    return None if document is None else (document, bases.edition_of(connection, document.base))


def _commit(
    connection: Connection,
    document: Document,
    edition: Edition,
    reply: Pieces,
    chunks: list[Chunk],
    vectors: NDArray[np.float32],
) -> list[str] | None:
    """All of a document at once, and the files that it replaced; None when it was removed or cancelled."""
    current = documents.find(connection, document.id)
    if current is None or current.status != "in_progress":
        return None
    now = bases.edition_of(connection, document.base)
    documents.set_text(connection, document.id, reply.text, reply.spans)
    if now.fingerprint != edition.fingerprint:
        raise _Superseded(now)
    editions.add_chunks(connection, now.id, document.id, chunks, vectors)
    documents.set_status(connection, document.id, "completed")
    return files.drop(connection, current.replaces)
