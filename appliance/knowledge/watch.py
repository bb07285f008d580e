"""Watched folders: what changes in them changes in their base.

At the start, and whenever something moves, the folder is compared with what is known of it: by size and time
first, by content where those differ. A file counts when it has stood still for a moment, so half-written ones
wait. A changed file's new document goes in before its old one is taken out. A folder that has vanished whole,
a stick that was pulled out, takes nothing with it.

The only import of watchfiles.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import watchfiles

from appliance.errors import HearthError
from appliance.knowledge.scan import Seen, fingerprint, look, scan
from appliance.store import folders
from appliance.store.database import Connection, Database
from appliance.store.rows import Folder, FolderFile

log = logging.getLogger("hearth.knowledge")

STILL_SECONDS = 1.0
RETRY_SECONDS = 5.0
RESCAN_SECONDS = 600.0  # in case the kernel dropped a notice
TURN_MILLISECONDS = 1000
PIECE = 1024 * 1024

TakeIn = Callable[[Folder, str, AsyncIterator[bytes]], Awaitable[str]]
TakeOut = Callable[[Folder, str], Awaitable[None]]
Rename = Callable[[Folder, str, str], Awaitable[None]]


class Watch:
    """`take_in` makes a document of (folder, path within it, content) and gives its file id; `take_out`
    removes such a document; `rename` gives it another name."""

    def __init__(
        self, database: Database, most_bytes: int, take_in: TakeIn, take_out: TakeOut, rename: Rename
    ) -> None:
        self._database, self._most_bytes = database, most_bytes
        self._take_in, self._take_out, self._rename = take_in, take_out, rename
        self._tasks: dict[int, asyncio.Task[None]] = {}

    async def start(self) -> None:
        for folder in await asyncio.to_thread(self._database.read, folders.everywhere):
            self.begin(folder)

    def begin(self, folder: Folder) -> None:
        self._tasks[folder.id] = asyncio.create_task(self._watch(folder))

    async def end(self, folder: int) -> None:
        task = self._tasks.pop(folder, None)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def stop(self) -> None:
        for folder in list(self._tasks):
            await self.end(folder)

    async def _watch(self, folder: Folder) -> None:
        seen: dict[str, Seen] = {}
        while True:
            try:
                await self._follow(folder, seen)
            except (OSError, HearthError, RuntimeError) as error:
                log.warning("%s cannot be watched just now: %s", folder.path, error)
            await asyncio.sleep(RETRY_SECONDS)

    async def _follow(self, folder: Folder, seen: dict[str, Seen]) -> None:
        """Until the folder vanishes. Raises OSError when it cannot be read."""
        is_settled = await self._compare(folder, seen)
        compared_at = time.monotonic()
        async for changes in watchfiles.awatch(
            folder.path, rust_timeout=TURN_MILLISECONDS, yield_on_timeout=True, debounce=400, step=100
        ):
            if changes or not is_settled or time.monotonic() - compared_at > RESCAN_SECONDS:
                is_settled = await self._compare(folder, seen)
                compared_at = time.monotonic()
            elif not await asyncio.to_thread(Path(folder.path).is_dir):
                return

    async def _compare(self, folder: Folder, seen: dict[str, Seen]) -> bool:
        """Make the base what the folder is; False when some file has to be looked at again soon."""
        root = Path(folder.path)
        there = await asyncio.to_thread(scan, root)
        known = await asyncio.to_thread(
            self._database.read, lambda connection: folders.files(connection, folder.id)
        )
        is_settled = True
        gone = {path: file for path, file in known.items() if path not in there}
        for path, state in there.items():
            if path in known and seen.get(path) == state:
                continue
            if time.time_ns() - state.changed < STILL_SECONDS * 1e9:
                is_settled = False
                continue
            is_done = await self._look_at(folder, root / path, path, state, known.get(path), gone)
            if is_done:
                seen[path] = state
            is_settled &= is_done
        for path, file in gone.items():
            if file.file:
                await self._take_out(folder, file.file)
            await self._forget(folder, path)
            seen.pop(path, None)
        return is_settled

    async def _look_at(
        self,
        folder: Folder,
        place: Path,
        path: str,
        state: Seen,
        known: FolderFile | None,
        gone: dict[str, FolderFile],
    ) -> bool:
        """Take in one new or changed file; False when it moved under our eyes."""
        if state.size > self._most_bytes:
            return await self._problem(folder, path, known, f"it is larger than {self._most_bytes} bytes")
        if state.size == 0:
            return await self._problem(folder, path, known, "it is empty")
        try:
            sha256 = await asyncio.to_thread(fingerprint, place)
        except OSError as error:
            return await self._problem(folder, path, known, f"it cannot be read: {error.strerror}")
        if known is not None and known.sha256 == sha256:
            return True
        moved = next((old for old in gone.values() if old.sha256 == sha256 and old.file), None)
        if moved is not None and known is None:
            del gone[moved.path]
            await self._rename(folder, moved.file, path)
            await self._forget(folder, moved.path)
            await self._remember(folder, FolderFile(path=path, sha256=sha256, file=moved.file, problem=""))
            return True
        file = await self._take_in(folder, path, _content(place))
        if await asyncio.to_thread(look, place) != state:
            await self._take_out(folder, file)  # it was being written after all
            return False
        await self._remember(folder, FolderFile(path=path, sha256=sha256, file=file, problem=""))
        if known is not None and known.file:
            await self._take_out(folder, known.file)
        return True

    async def _problem(self, folder: Folder, path: str, known: FolderFile | None, problem: str) -> bool:
        if known is not None and known.file:
            await self._take_out(folder, known.file)
        await self._remember(folder, FolderFile(path=path, sha256="", file="", problem=problem))
        return True

    async def _remember(self, folder: Folder, file: FolderFile) -> None:
        await self._write(lambda connection: folders.put_file(connection, folder.id, file))

    async def _forget(self, folder: Folder, path: str) -> None:
        await self._write(lambda connection: folders.take_file(connection, folder.id, path))

    async def _write(self, work: Callable[[Connection], None]) -> None:
        await asyncio.wrap_future(self._database.write(work))


async def _content(path: Path) -> AsyncIterator[bytes]:
    file = await asyncio.to_thread(path.open, "rb")
    try:
        while piece := await asyncio.to_thread(file.read, PIECE):
            yield piece
    finally:
        file.close()
