"""Watched folders: what changes in them changes in their base.

At the start, and whenever something moves, the folder is compared with what is known of it: by size and time
first, by content where those differ. A file counts when it has stood still for a moment, so half-written ones
wait. A changed file's old document stays until its new one has been read. A folder that has vanished whole,
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
from appliance.knowledge.scan import MOST_FILES, Seen, fingerprint, open_plain, scan
from appliance.knowledge.transactions import read, write
from appliance.store import folders
from appliance.store.database import Database
from appliance.store.rows import Folder, FolderFile

log = logging.getLogger("hearth.knowledge")

STILL_SECONDS = 1.0
RETRY_SECONDS = 5.0
RESCAN_SECONDS = 600.0  # in case the kernel dropped a notice
TURN_MILLISECONDS = 1000
PIECE = 1024 * 1024

TakeIn = Callable[[Folder, FolderFile, AsyncIterator[bytes], str], Awaitable[bool]]
TakeOut = Callable[[Folder, FolderFile], Awaitable[None]]
Rename = Callable[[Folder, FolderFile, str], Awaitable[None]]


class Watch:
    """What is noticed is done by three others, each durable in one step with what is known of the file:
    `take_in` makes a document of the content in the place of the file that is named last, and gives False
    when the content is not what was seen; `take_out` removes a file's document, `rename` gives it another
    path."""

    def __init__(
        self, database: Database, most_bytes: int, take_in: TakeIn, take_out: TakeOut, rename: Rename
    ) -> None:
        self._database, self._most_bytes = database, most_bytes
        self._take_in, self._take_out, self._rename = take_in, take_out, rename
        self._tasks: dict[int, asyncio.Task[None]] = {}

    async def start(self) -> None:
        for folder in await read(self._database, folders.everywhere):
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
        """Until the folder vanishes or holds other folders. Raises OSError when it cannot be read."""
        root = Path(folder.path)
        folders, _ = await self._compare(folder, seen)
        # Each folder by itself: a recursive watch would follow links, out of the folder and round in circles.
        turns = watchfiles.awatch(
            *folders,
            recursive=False,
            rust_timeout=TURN_MILLISECONDS,
            yield_on_timeout=True,
            debounce=400,
            step=100,
        )
        is_settled = False  # what changed before the kernel listened has given no notice
        compared_at = time.monotonic()
        async for changes in turns:
            if changes or not is_settled or time.monotonic() - compared_at > RESCAN_SECONDS:
                now, is_settled = await self._compare(folder, seen)
                compared_at = time.monotonic()
                if now != folders:
                    return
            elif not await asyncio.to_thread(root.is_dir):
                return

    async def _compare(self, folder: Folder, seen: dict[str, Seen]) -> tuple[frozenset[str], bool]:
        """Make the base what the folder is. The folders in it, and whether all files stood still."""
        root = Path(folder.path)
        there, inside, is_cut = await asyncio.to_thread(scan, root)
        known = await read(self._database, lambda connection: folders.files(connection, folder.id))
        is_settled = True
        moving: set[int] = set()  # the sizes of new files that have not stood still yet
        gone = {path: file for path, file in known.items() if path not in there}
        if is_cut:
            gone.pop("", None)
            await self._remember(
                folder, "", f"it holds more than {MOST_FILES:,} files; the others are left out"
            )
        for path, state in there.items():
            if path in known and seen.get(path) == state:
                continue
            if abs(time.time_ns() - state.changed) < STILL_SECONDS * 1e9:
                is_settled = False
                if path not in known:
                    moving.add(state.size)
                continue
            is_done = await self._look_at(folder, root / path, path, state, known.get(path), gone)
            if is_done:
                seen[path] = state
            is_settled &= is_done
        for path, file in gone.items():
            if path in seen and seen[path].size in moving:
                continue  # it may have got another name
            await self._take_out(folder, file)
            seen.pop(path, None)
        return inside, is_settled

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
        except FileNotFoundError:
            return False
        except OSError as error:
            return await self._problem(folder, path, known, f"it cannot be read: {error.strerror}")
        if known is not None and known.sha256 == sha256:
            return True
        moved = next((old for old in gone.values() if old.sha256 == sha256 and old.file), None)
        if moved is not None and known is None:
            del gone[moved.path]
            await self._rename(folder, moved, path)
            return True
        try:
            new = FolderFile(path=path, sha256=sha256, file="", problem="")
            return await self._take_in(folder, new, _content(place), known.file if known else "")
        except FileNotFoundError:
            return False

    async def _problem(self, folder: Folder, path: str, known: FolderFile | None, problem: str) -> bool:
        if known is not None and known.file:
            await self._take_out(folder, known)
        await self._remember(folder, path, problem)
        return True

    async def _remember(self, folder: Folder, path: str, problem: str) -> None:
        file = FolderFile(path=path, sha256="", file="", problem=problem)
        await write(self._database, lambda connection: folders.put_file(connection, folder.id, file))


async def _content(path: Path) -> AsyncIterator[bytes]:
    file = await asyncio.to_thread(open_plain, path)
    try:
        while piece := await asyncio.to_thread(file.read, PIECE):
            yield piece
    finally:
        file.close()
