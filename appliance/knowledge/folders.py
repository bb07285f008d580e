"""Watched folders of knowledge bases: on whose behalf they are watched, and what their files become.

`watch` notices; this module turns what it notices into documents of the base, owned by the base's owner.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import msgspec

from appliance.errors import InvalidValue
from appliance.knowledge.documents import Documents
from appliance.knowledge.files import Files
from appliance.knowledge.transactions import read, write
from appliance.knowledge.views import NewDocument
from appliance.knowledge.watch import Watch
from appliance.principal import Principal
from appliance.store import bases, documents, files, folders
from appliance.store.database import Connection, Database
from appliance.store.rows import Folder, FolderFile, StoredFile

MOST_PATH_CHARS = 512  # of an attribute


class Folders:
    """`start` in a running loop, `stop` at the end."""

    def __init__(
        self,
        database: Database,
        kept: Files,
        made: Documents,
        most_bytes: int,
    ) -> None:
        self._database, self._files, self._documents = database, kept, made
        self._watch = Watch(database, most_bytes, self._take_in, self._take_out, self._rename)

    async def start(self) -> None:
        await self._watch.start()

    async def stop(self) -> None:
        await self._watch.stop()

    async def add(self, principal: Principal, base: str, path: Path) -> Folder:
        """Keep the base as the folder is, from now on. Raises InvalidValue for what is no folder."""
        await read(self._database, lambda connection: bases.get_owned(connection, principal, base))
        await asyncio.to_thread(self._check, path)

        def work(connection: Connection) -> Folder:
            owned = bases.get_owned(connection, principal, base)
            return folders.add(connection, owned.id, str(path))

        folder = await write(self._database, work)
        self._watch.begin(folder)
        return folder

    async def list(self, principal: Principal, base: str) -> Sequence[tuple[Folder, dict[str, FolderFile]]]:
        """The base's folders, with what is known of their files."""

        def work(connection: Connection) -> Sequence[tuple[Folder, dict[str, FolderFile]]]:
            found = folders.of_base(connection, bases.get_owned(connection, principal, base).id)
            return [(folder, folders.files(connection, folder.id)) for folder in found]

        return await read(self._database, work)

    async def remove(self, principal: Principal, base: str, id: int) -> None:
        """Stop watching; what was taken in stays."""

        def find(connection: Connection) -> Folder:
            return folders.get(connection, bases.get_owned(connection, principal, base).id, id)

        await read(self._database, find)
        await self._watch.end(id)
        await write(self._database, lambda connection: folders.remove(connection, id))

    async def end_all(self, principal: Principal, base: str) -> None:
        """Stop watching what the base is about to lose. Raises NotFound, Forbidden."""

        def work(connection: Connection) -> list[Folder]:
            return folders.of_base(connection, bases.get_owned(connection, principal, base).id)

        for folder in await read(self._database, work):
            await self._watch.end(folder.id)

    def _check(self, path: Path) -> None:
        if not path.is_absolute() or not path.is_dir():
            raise InvalidValue(f"{path} is no folder on this machine, or no absolute path", param="path")
        home, real = self._files.directory.parent.resolve(), path.resolve()
        if real.is_relative_to(home) or home.is_relative_to(real):
            raise InvalidValue(f"{path} holds Hearth's own data, or lies in it", param="path")

    async def _take_in(
        self, folder: Folder, new: FolderFile, content: AsyncIterator[bytes], replaces: str
    ) -> bool:
        owner = await self._owner(folder)
        received = await self._files.receive(content)
        try:
            if received.sha256 != new.sha256:
                return False  # it was being written after all

            def work(connection: Connection, file: StoredFile) -> None:
                document = NewDocument(file.id, {"path": _place(folder, new.path)}, replaces=replaces)
                self._documents.queue(connection, owner, folder.base, [document])
                known = msgspec.structs.replace(new, file=file.id)
                folders.put_file(connection, folder.id, known)

            await self._files.keep(owner, received, new.path, "assistants", then=work)
        finally:
            self._files.discard(received)
        self._documents.wake()
        return True

    async def _take_out(self, folder: Folder, known: FolderFile) -> None:
        def work(connection: Connection) -> list[str]:
            folders.take_file(connection, folder.id, known.path)
            return files.drop(connection, known.file)

        self._files.erase(await write(self._database, work))

    async def _rename(self, folder: Folder, known: FolderFile, path: str) -> None:
        def work(connection: Connection) -> None:
            folders.take_file(connection, folder.id, known.path)
            folders.put_file(connection, folder.id, msgspec.structs.replace(known, path=path))
            files.rename(connection, known.file, path)
            document = documents.find_file(connection, folder.base, known.file)
            if document is not None:  # somebody may have taken it out
                attributes = {**document.attributes, "path": _place(folder, path)}
                documents.set_attributes(connection, document.id, attributes)

        await write(self._database, work)

    async def _owner(self, folder: Folder) -> Principal:
        return Principal(
            await read(self._database, lambda connection: bases.owner_of(connection, folder.base))
        )


def _place(folder: Folder, path: str) -> str:
    return str(Path(folder.path) / path)[-MOST_PATH_CHARS:]
