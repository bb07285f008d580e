"""Watched folders of knowledge bases: on whose behalf they are watched, and what their files become.

`watch` notices; this module turns what it notices into documents of the base, owned by the base's owner.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from appliance.errors import InvalidValue, NotFound
from appliance.knowledge.files import Files
from appliance.knowledge.views import NewDocument
from appliance.knowledge.watch import Watch
from appliance.store import bases, documents, files, folders
from appliance.store.database import Connection, Database
from appliance.store.rows import Folder, FolderFile, Principal

Result = TypeVar("Result")
AddDocuments = Callable[[Principal, str, Sequence[NewDocument]], Awaitable[Any]]
RemoveFile = Callable[[Principal, str], Awaitable[None]]

MOST_PATH_CHARS = 512  # of an attribute


class Folders:
    """`start` in a running loop, `stop` at the end."""

    def __init__(
        self,
        database: Database,
        kept: Files,
        most_bytes: int,
        add_documents: AddDocuments,
        remove_file: RemoveFile,
    ) -> None:
        self._database, self._files = database, kept
        self._add_documents, self._remove_file = add_documents, remove_file
        self._watch = Watch(database, most_bytes, self._take_in, self._take_out, self._rename)

    async def start(self) -> None:
        await self._watch.start()

    async def stop(self) -> None:
        await self._watch.stop()

    async def add(self, principal: Principal, base: str, path: Path) -> Folder:
        """Keep the base as the folder is, from now on. Raises InvalidValue for what is no folder."""
        await self._read(lambda connection: bases.get_owned(connection, principal, base))
        await asyncio.to_thread(self._check, path)

        def work(connection: Connection) -> Folder:
            owned = bases.get_owned(connection, principal, base)
            return folders.add(connection, owned.id, str(path))

        folder = await self._write(work)
        self._watch.begin(folder)
        return folder

    async def list(self, principal: Principal, base: str) -> Sequence[tuple[Folder, dict[str, FolderFile]]]:
        """The base's folders, with what is known of their files."""

        def work(connection: Connection) -> Sequence[tuple[Folder, dict[str, FolderFile]]]:
            found = folders.of_base(connection, bases.get(connection, principal, base).id)
            return [(folder, folders.files(connection, folder.id)) for folder in found]

        return await self._read(work)

    async def remove(self, principal: Principal, base: str, id: int) -> None:
        """Stop watching; what was taken in stays."""

        def find(connection: Connection) -> Folder:
            return folders.get(connection, bases.get_owned(connection, principal, base).id, id)

        await self._read(find)
        await self._watch.end(id)
        await self._write(lambda connection: folders.remove(connection, id))

    async def end_all(self, principal: Principal, base: str) -> None:
        """Stop watching what the base is about to lose."""
        for folder, _ in await self.list(principal, base):
            await self._watch.end(folder.id)

    def _check(self, path: Path) -> None:
        if not path.is_absolute() or not path.is_dir():
            raise InvalidValue(f"{path} is no folder on this machine, or no absolute path", param="path")
        home, real = self._files.directory.parent.resolve(), path.resolve()
        if real.is_relative_to(home) or home.is_relative_to(real):
            raise InvalidValue(f"{path} holds Hearth's own data, or lies in it", param="path")

    async def _take_in(self, folder: Folder, path: str, content: AsyncIterator[bytes]) -> str:
        owner = await self._owner(folder)
        file = await self._files.store(owner, path, "assistants", content)
        await self._add_documents(owner, folder.base, [NewDocument(file.id, {"path": _place(folder, path)})])
        return file.id

    async def _take_out(self, folder: Folder, file: str) -> None:
        with contextlib.suppress(NotFound):  # somebody was faster
            await self._remove_file(await self._owner(folder), file)

    async def _rename(self, folder: Folder, file: str, path: str) -> None:
        def work(connection: Connection) -> None:
            files.rename(connection, file, path)
            with contextlib.suppress(NotFound):
                document = documents.get(connection, folder.base, file)
                attributes = {**document.attributes, "path": _place(folder, path)}
                documents.set_attributes(connection, document.id, attributes)

        await self._write(work)

    async def _owner(self, folder: Folder) -> Principal:
        return Principal(await self._read(lambda connection: bases.owner_of(connection, folder.base)))

    async def _read(self, work: Callable[[Connection], Result]) -> Result:
        return await asyncio.to_thread(self._database.read, work)

    async def _write(self, work: Callable[[Connection], Result]) -> Result:
        return await asyncio.wrap_future(self._database.write(work))


def _place(folder: Folder, path: str) -> str:
    return str(Path(folder.path) / path)[-MOST_PATH_CHARS:]
