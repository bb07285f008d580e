"""From a file in a base to chunks that can be found: read, chunk, embed, commit, a few documents at once.

The queue is the database: a document waits there as `in_progress` until the transaction that holds its text,
its chunks and its vectors also says `completed`. So nothing is acknowledged before it is on the disk, and a
crash at any moment means doing a few documents again. Small plain texts go through all steps together, which
saves each its own process, embedder's batch and sync; what goes wrong for them together is done again one by
one, so a status is always the document's own. While some are embedded the next are being read.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from appliance.errors import HearthError, InternalError, Overloaded, StorageFull, Unavailable
from appliance.knowledge.chunk import embedded_text
from appliance.knowledge.embedding import Embedding, ServedEmbedder
from appliance.knowledge.extract.kinds import is_named_plain
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
AT_ONCE = 4  # groups of documents being embedded, so that the encoder never waits for a commit
TOGETHER = 32  # documents of a group
TOGETHER_BYTES = 64 * 1024  # of their files: some seconds of embedding
RETRY_SECONDS = 2.0
EMBED_AT_ONCE = 256  # chunks


class _Read(NamedTuple):
    """A document that has been read."""

    document: Document
    reply: Reply


class _Group(NamedTuple):
    """Documents of one base that have been read, for the edition and embedder that were current then."""

    edition: Edition
    served: ServedEmbedder | None
    reads: list[_Read]


Embedded = tuple[list[Chunk], NDArray[np.float32]]


class _Superseded(Exception):
    """The base was made anew with another embedder while a document was being embedded with the old one."""

    def __init__(self, edition: Edition) -> None:
        super().__init__(edition.base)
        self.edition = edition


class Ingest:
    """`start` in a running event loop; `stop` ends after the documents' present step, losing nothing."""

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
        self._read: asyncio.Queue[_Group] = asyncio.Queue(READ_AHEAD)
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

    async def prepare(self, served: ServedEmbedder, jobs: Sequence[Job]) -> list[Embedded | Refusal]:
        """Each job's chunks and their vectors. Raises what the embedder raises."""
        replies = await self._extraction.run(jobs)
        embedded = iter(await self._embed(served, [each for each in replies if isinstance(each, Pieces)]))
        return [reply if isinstance(reply, Refusal) else next(embedded) for reply in replies]

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
            waiting, edition = found
            last = waiting[-1].id
            await self._read.put(await self._read_some(waiting, edition))

    async def _read_some(self, waiting: Sequence[Document], edition: Edition) -> _Group:
        served = self._embedding.find(edition.fingerprint)
        replies: Sequence[Reply]
        if served is None:
            unserved = Refusal(
                "server_error",
                f"the knowledge base was made with the embedder {edition.embedder}, which is not served now; "
                "serve it again, or run `hearth kb reindex`",
            )
            replies = [unserved] * len(waiting)
        else:
            replies = await self._extraction.run([self.job(document, served) for document in waiting])
        return _Group(edition, served, [_Read(*each) for each in zip(waiting, replies, strict=True)])

    # Embedding and committing

    async def _commit_all(self) -> None:
        while True:
            group = await self._read.get()
            if len(group.reads) == 1 or not await self._finish_together(group):
                for read in group.reads:
                    await self._finish_alone(group._replace(reads=[read]))
            self._finished.set()
            self._finished = asyncio.Event()

    async def _finish_together(self, group: _Group) -> bool:
        """False when something was in the way of any of them; then nothing was done."""
        try:
            await self._finish(group)
        except Exception as error:
            log.info("%d documents are finished one by one: %r", len(group.reads), error)
            return False
        return True

    async def _finish_alone(self, group: _Group) -> None:
        ((document, _),) = group.reads
        while True:
            try:
                await self._finish(group)
                return
            except _Superseded as change:
                group = await self._read_some([document], change.edition)
            except (StorageFull, Unavailable, Overloaded) as error:
                # The disk may be freed, the encoder may come back: the document waits as it is.
                log.warning("%s waits: %s", document.name, error.message)
                await asyncio.sleep(RETRY_SECONDS)
            except Exception as error:
                log.exception("%s failed", document.name)
                message = error.message if isinstance(error, HearthError) else "an internal error occurred"
                group = group._replace(reads=[_Read(document, Refusal("server_error", message))])

    async def _finish(self, group: _Group) -> None:
        """All of a group's documents, in one transaction."""
        readable = [(document, reply) for document, reply in group.reads if isinstance(reply, Pieces)]
        refused = [(document, reply) for document, reply in group.reads if isinstance(reply, Refusal)]
        embedded: list[Embedded] = []
        if readable:
            assert group.served is not None
            embedded = await self._embed(group.served, [reply for _, reply in readable])

        def work(connection: Connection) -> list[str]:
            gone = []
            for (document, reply), (chunks, vectors) in zip(readable, embedded, strict=True):
                gone += _commit(connection, document, group.edition, reply, chunks, vectors)
            for document, refusal in refused:
                gone += _fail(connection, document, refusal)
            return gone

        gone = await write(self._database, work)
        if readable:
            await asyncio.to_thread(self._indexes.refresh, group.edition.id)
        self._files.erase(gone)

    async def _embed(self, served: ServedEmbedder, replies: Sequence[Pieces]) -> list[Embedded]:
        """Each text's chunks and vectors; all of them embedded together."""
        found = [
            [
                Chunk(begins=begins, ends=ends, page=page, heading=heading, text=reply.text[begins:ends])
                for begins, ends, page, heading in reply.pieces
            ]
            for reply in replies
        ]
        texts = [embedded_text(chunk.heading, chunk.text) for chunks in found for chunk in chunks]
        parts = [
            await self._embedding.embed(served, texts[begin : begin + EMBED_AT_ONCE], "passage")
            for begin in range(0, len(texts), EMBED_AT_ONCE)
        ]
        if not all(found):
            raise InternalError("a text without chunks reached the embedder")
        vectors = iter(np.split(np.concatenate(parts), np.cumsum([len(chunks) for chunks in found])[:-1]))
        return [(chunks, next(vectors)) for chunks in found]


def _next(connection: Connection, after: int) -> tuple[list[Document], Edition] | None:
    """The documents that are read next: one, or several small ones of a base that are named as plain text."""
    waiting = documents.waiting(connection, after, TOGETHER)
    if not waiting:
        return None
    first = waiting[0]
    chosen, total = [first], first.bytes
    for document in waiting[1:]:
        total += document.bytes
        if document.base != first.base or total > TOGETHER_BYTES or not is_named_plain(document.name):
            break
        chosen.append(document)
    if not is_named_plain(first.name):
        chosen = [first]
    return chosen, bases.edition_of(connection, first.base)


def _fail(connection: Connection, document: Document, refusal: Refusal) -> list[str]:
    """The files that go with it: what it was to replace is not what the file says any more either."""
    is_new = documents.set_status(connection, document.id, "failed", refusal.code, refusal.message)
    return files.drop(connection, document.replaces) if is_new else []


def _commit(
    connection: Connection,
    document: Document,
    edition: Edition,
    reply: Pieces,
    chunks: list[Chunk],
    vectors: NDArray[np.float32],
) -> list[str]:
    """All of a document at once, unless it was removed or cancelled; the files that it replaced."""
    current = documents.find(connection, document.id)
    if current is None or current.status != "in_progress":
        return []
    now = bases.edition_of(connection, document.base)
    documents.set_text(connection, document.id, reply.text, reply.spans)
    if now.fingerprint != edition.fingerprint:
        raise _Superseded(now)
    editions.add_chunks(connection, now.id, document.id, chunks, vectors)
    documents.set_status(connection, document.id, "completed")
    return files.drop(connection, current.replaces)
