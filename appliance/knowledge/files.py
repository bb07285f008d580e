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
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import BinaryIO, NamedTuple

from appliance.errors import HearthError, InvalidValue, PayloadTooLarge, StorageFull
from appliance.knowledge.transactions import read, write
from appliance.principal import Principal
from appliance.store import files
from appliance.store.database import Connection, Database
from appliance.store.graph_file import sync_directory
from appliance.store.rows import Page, StoredFile

SWEPT_AT_ONCE = 100
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
        then: Callable[[Connection, StoredFile], object] | None = None,
    ) -> StoredFile:
        """Make a received file durable, with what `then` does in the same transaction.

        Raises StorageFull, InvalidValue when it is empty, and what `then` raises.
        """
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

        def work(connection: Connection) -> None:
            files.add(connection, file)
            if then is not None:
                then(connection, file)

        try:
            await asyncio.to_thread(self._settle, received.id)
            await write(self._database, work)
        except OSError as error:
            raise StorageFull(f"the file {name!r} could not be stored: {error.strerror}") from error
        except HearthError:
            self.erase([received.id])
            raise
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

    async def get(self, principal: Principal, id: str) -> StoredFile:
        return await read(self._database, lambda connection: files.get(connection, principal, id))

    async def list(
        self, principal: Principal, page: Page, purpose: str = ""
    ) -> tuple[list[StoredFile], bool]:
        """A page of the principal's files, and whether there are more."""
        return await read(
            self._database, lambda connection: files.find_page(connection, principal, page, purpose)
        )

    async def remove(self, principal: Principal, id: str) -> None:
        """Take the file, and what was made of it out of every base."""

        def work(connection: Connection) -> list[str]:
            return files.drop(connection, files.get(connection, principal, id).id)

        self.erase(await write(self._database, work))

    async def remove_expired(self) -> None:
        """Take every file whose time is over."""
        now = time.time()

        def work(connection: Connection) -> list[str]:
            due = files.expired_ids(connection, now)[:SWEPT_AT_ONCE]
            return [gone for id in due for gone in files.drop(connection, id)]

        while gone := await write(self._database, work):
            self.erase(gone)

    def erase(self, ids: Iterable[str]) -> None:
        """Take the bytes of files that have no row any more."""
        for id in ids:
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
