"""Watched folders: which base each feeds, and which of its files has become which document."""

from __future__ import annotations

import time

from appliance.errors import InvalidValue, NotFound
from appliance.store.database import Connection
from appliance.store.rows import Folder, FolderFile


def add(connection: Connection, base: str, path: str) -> Folder:
    """Raises InvalidValue when the base watches that folder already."""
    if connection.execute("SELECT 1 FROM folders WHERE base = ? AND path = ?", (base, path)).fetchone():
        raise InvalidValue(f"this knowledge base watches {path} already", param="path")
    connection.execute(
        "INSERT INTO folders(base, path, created_at) VALUES(?, ?, ?)", (base, path, time.time())
    )
    return Folder(id=connection.last_insert_rowid(), base=base, path=path)


def get(connection: Connection, base: str, id: int) -> Folder:
    """Raises NotFound."""
    row = connection.execute("SELECT path FROM folders WHERE base = ? AND id = ?", (base, id)).fetchone()
    if row is None:
        raise NotFound("this knowledge base watches no such folder", param="folder_id")
    return Folder(id=id, base=base, path=str(row[0]))


def of_base(connection: Connection, base: str) -> list[Folder]:
    rows = connection.execute("SELECT id, base, path FROM folders WHERE base = ? ORDER BY id", (base,))
    return [Folder(id=row[0], base=row[1], path=row[2]) for row in rows]


def everywhere(connection: Connection) -> list[Folder]:
    rows = connection.execute("SELECT id, base, path FROM folders ORDER BY id")
    return [Folder(id=row[0], base=row[1], path=row[2]) for row in rows]


def remove(connection: Connection, id: int) -> None:
    """Takes the folder and what is known of its files; their documents stay."""
    connection.execute("DELETE FROM folders WHERE id = ?", (id,))


def files(connection: Connection, folder: int) -> dict[str, FolderFile]:
    """The files that were seen, by their path within the folder."""
    rows = connection.execute(
        "SELECT path, sha256, file, problem FROM folder_files WHERE folder = ?", (folder,)
    )
    return {row[0]: FolderFile(path=row[0], sha256=row[1], file=row[2], problem=row[3]) for row in rows}


def put_file(connection: Connection, folder: int, file: FolderFile) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO folder_files(folder, path, sha256, file, problem) VALUES(?,?,?,?,?)",
        (folder, file.path, file.sha256, file.file, file.problem),
    )


def take_file(connection: Connection, folder: int, path: str) -> None:
    connection.execute("DELETE FROM folder_files WHERE folder = ? AND path = ?", (folder, path))
