"""Knowledge bases that came with the executable or in a pack, taken in once: made, filled, and read like
uploads.

What was taken in is noted by the hash of its zip in `carried.json`, with the base it became, so that a base
which somebody removed does not come back, and one that was cut off half-way goes on behind its last document:
a file and its place in the base are one transaction. Knows neither where the zips come from nor how they were
checked.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import IO

import msgspec

from appliance.errors import HearthError, NotFound, Overloaded
from appliance.knowledge.bases import Bases
from appliance.knowledge.documents import Documents
from appliance.knowledge.files import Files
from appliance.knowledge.views import Chunking, NewDocument
from appliance.principal import Principal
from appliance.store.database import Connection
from appliance.store.rows import StoredFile
from models.disk import replace_file
from models.errors import ModelError
from models.exported_base import Chunking as ExportedChunking
from models.exported_base import ExportedBase, ExportedDocument
from models.region import Extent

log = logging.getLogger("hearth.knowledge")

_CHUNK = 1 << 20
_PURPOSE = "assistants"
EVERYBODY = ("*",)


class CarriedBase(msgspec.Struct, frozen=True):
    """An exported base that waits: its zip, the zip's hash, and whether it is to go once it was taken in."""

    sha256: str
    extent: Extent
    is_temporary: bool = False


class Taken(msgspec.Struct):
    """What became of a carried base."""

    base: str
    is_whole: bool = False


class Carried:
    """Takes carried bases in on behalf of `owner`."""

    def __init__(
        self, record: Path, owner: Principal, bases: Bases, documents: Documents, files: Files
    ) -> None:
        self._record, self._owner = record, owner
        self._bases, self._documents, self._files = bases, documents, files
        self._taken: dict[str, Taken] = {}
        if record.exists():
            self._taken = msgspec.json.decode(record.read_bytes(), type=dict[str, Taken])

    async def take_in(self, waiting: Sequence[CarriedBase]) -> None:
        """One after the other. What fails is told in the log and tried again at the next start."""
        for carried in waiting:
            taken = self._taken.get(carried.sha256)
            if taken is not None and taken.is_whole:
                continue
            try:
                await self._take(carried, taken)
            except (HearthError, ModelError, OSError) as error:
                log.warning("a carried knowledge base was not taken in: %s", error)

    async def _take(self, carried: CarriedBase, taken: Taken | None) -> None:
        with await asyncio.to_thread(ExportedBase, carried.extent) as exported:
            manifest = exported.manifest
            done = await self._count(taken.base) if taken is not None else None
            if taken is None or done is None:
                base = await self._bases.create(
                    self._owner,
                    manifest.name,
                    description=manifest.description,
                    metadata=dict(manifest.metadata),
                    chunking=_sizes(manifest.chunking_strategy),
                    unique=True,
                )
                await self._bases.share(self._owner, base.id, EVERYBODY)
                taken, done = Taken(base.id), 0
                await self._note(carried.sha256, taken)
            for document in manifest.documents[done:]:
                while not await self._add(taken.base, document, exported):
                    await self._documents.wait_until_read(self._owner, taken.base)
        taken.is_whole = True
        await self._note(carried.sha256, taken)
        if carried.is_temporary:
            await asyncio.to_thread(carried.extent.path.unlink, missing_ok=True)
        log.info("the knowledge base %r came with this installation", manifest.name)

    async def _count(self, base: str) -> int | None:
        """How many documents it has; None when there is no such base any more."""
        try:
            return (await self._bases.status(self._owner, base)).counts.total
        except NotFound:
            return None

    async def _add(self, base: str, document: ExportedDocument, exported: ExportedBase) -> bool:
        """Whether there was room for it among the documents that wait to be read."""
        chunking = _sizes(document.chunking_strategy)

        def attach(connection: Connection, file: StoredFile) -> None:
            new = NewDocument(file.id, dict(document.attributes), chunking)
            self._documents.queue(connection, self._owner, base, [new])

        with exported.content(document) as content:
            received = await self._files.receive(_pieces(content))
        try:
            await self._files.keep(self._owner, received, document.filename, _PURPOSE, then=attach)
        except Overloaded:
            return False
        finally:
            self._files.discard(received)
        self._documents.wake()
        return True

    async def _note(self, sha256: str, taken: Taken) -> None:
        self._taken[sha256] = taken
        await asyncio.to_thread(replace_file, self._record, msgspec.json.encode(self._taken))


def _sizes(strategy: ExportedChunking | None) -> Chunking | None:
    if strategy is None or strategy.static is None:
        return None
    return Chunking(strategy.static.max_chunk_size_tokens, strategy.static.chunk_overlap_tokens)


async def _pieces(content: IO[bytes]) -> AsyncIterator[bytes]:
    while piece := await asyncio.to_thread(content.read, _CHUNK):
        yield piece
