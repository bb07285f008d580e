"""Uploaded files: bytes on the disk, a row in the database, and never one without the other for long.

A file is written beside its place, synced, moved into place and only then told to the database. What a crash
leaves without a row is removed at the next start.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from appliance.errors import InvalidValue, PayloadTooLarge, StorageFull
from appliance.store import files
from appliance.store.database import Connection, Database
from appliance.store.graph_file import sync_directory
from appliance.store.rows import Principal, StoredFile

PARTIAL = ".partial"


class Received(NamedTuple):
    """A file whose bytes are here, but which is not yet anybody's."""

    id: str
    size: int
    sha256: str


class Files:
    def __init__(self, database: Database, directory: Path, most_bytes: int) -> None:
        self._database, self.directory, self._most_bytes = database, directory, most_bytes
        directory.mkdir(parents=True, exist_ok=True)
        self._clean()

    def path(self, id: str) -> Path:
        """Where the file's bytes lie. `id` comes out of the database, never out of a request."""
        return self.directory / id

    async def receive(self, content: AsyncIterator[bytes]) -> Received:
        """Write the content beside its place. `keep` or `discard` it then.

        Raises PayloadTooLarge, StorageFull.
        """
        id = f"file-{secrets.token_hex(12)}"
        partial = self.path(id + PARTIAL)
        try:
            size, sha256 = await self._write(partial, content)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise StorageFull(f"the file could not be stored: {error.strerror}") from error
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        return Received(id, size, sha256)

    async def keep(
        self,
        principal: Principal,
        received: Received,
        name: str,
        purpose: str,
        *,
        seconds_to_live: int | None = None,
    ) -> StoredFile:
        """Make a received file durable. Raises StorageFull, or InvalidValue when it is empty."""
        if received.size == 0:
            raise InvalidValue(f"the file {name!r} is empty", param="file")
        now = time.time()
        file = StoredFile(
            id=received.id,
            owner=principal.id,
            name=name,
            purpose=purpose,
            bytes=received.size,
            sha256=received.sha256,
            created_at=now,
            expires_at=None if seconds_to_live is None else now + seconds_to_live,
        )
        try:
            await asyncio.to_thread(self._settle, received.id)
            await asyncio.wrap_future(self._database.write(lambda connection: files.add(connection, file)))
        except OSError as error:
            raise StorageFull(f"the file {name!r} could not be stored: {error.strerror}") from error
        return file

    def discard(self, received: Received) -> None:
        """Forget what was received, unless it was kept."""
        self.path(received.id + PARTIAL).unlink(missing_ok=True)

    async def store(
        self, principal: Principal, name: str, purpose: str, content: AsyncIterator[bytes]
    ) -> StoredFile:
        """Receive and keep in one step."""
        received = await self.receive(content)
        try:
            return await self.keep(principal, received, name, purpose)
        finally:
            self.discard(received)

    async def remove(self, id: str) -> None:
        """Take row and bytes; documents made of the file must be gone already."""
        await asyncio.wrap_future(self._database.write(lambda connection: files.remove(connection, id)))
        self.path(id).unlink(missing_ok=True)

    async def _write(self, path: Path, content: AsyncIterator[bytes]) -> tuple[int, str]:
        digest, size = hashlib.sha256(), 0
        target: BinaryIO = await asyncio.to_thread(path.open, "xb")
        with target:
            async for piece in content:
                size += len(piece)
                if size > self._most_bytes:
                    raise PayloadTooLarge(
                        f"the file is larger than {self._most_bytes} bytes (knowledge.file_bytes)"
                    )
                digest.update(piece)
                await asyncio.to_thread(target.write, piece)
        return size, digest.hexdigest()

    def _settle(self, id: str) -> None:
        partial = self.path(id + PARTIAL)
        descriptor = os.open(partial, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        partial.rename(self.path(id))
        sync_directory(self.directory)

    def _clean(self) -> None:
        known: set[str] = self._database.read(_ids)
        for path in self.directory.iterdir():
            if path.name not in known:
                path.unlink(missing_ok=True)


def _ids(connection: Connection) -> set[str]:
    return files.all_ids(connection)
