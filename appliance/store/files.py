"""Uploaded files: their rows. The bytes lie in `uploads/` beside the database, under the file's id."""

from __future__ import annotations

import time

from appliance.errors import NotFound
from appliance.principal import Principal
from appliance.store import documents
from appliance.store.database import Connection
from appliance.store.paging import page_of
from appliance.store.rows import Page, StoredFile

COLUMNS = "id, owner, name, purpose, bytes, sha256, created_at, expires_at"


def add(connection: Connection, file: StoredFile) -> None:
    connection.execute(
        f"INSERT INTO files({COLUMNS}) VALUES(?,?,?,?,?,?,?,?)",
        (
            file.id,
            file.owner,
            file.name,
            file.purpose,
            file.bytes,
            file.sha256,
            file.created_at,
            file.expires_at,
        ),
    )


def get(connection: Connection, principal: Principal, id: str) -> StoredFile:
    """Raises NotFound, also for another principal's file."""
    row = connection.execute(
        f"SELECT {COLUMNS} FROM files WHERE id = ? AND owner = ?",  # noqa: S608
        (id, principal.id),
    ).fetchone()
    if row is None or (row[7] is not None and row[7] <= time.time()):
        raise NotFound(f"there is no file {id!r}", param="file_id")
    return _file(row)


def find_page(
    connection: Connection, principal: Principal, page: Page, purpose: str = ""
) -> tuple[list[StoredFile], bool]:
    """The principal's files, and whether there are more."""
    rows, has_more = page_of(
        connection,
        f"SELECT {COLUMNS} FROM files",  # noqa: S608
        "owner = ? AND (? = '' OR purpose = ?) AND (expires_at IS NULL OR expires_at > ?)",
        (principal.id, purpose, purpose, time.time()),
        ("created_at", "id"),
        page,
    )
    return [_file(row) for row in rows], has_more


def rename(connection: Connection, id: str, name: str) -> None:
    connection.execute("UPDATE files SET name = ? WHERE id = ?", (name, id))


def drop(connection: Connection, id: str) -> list[str]:
    """Takes the row, what was made of the file out of every base, and the files that it was still to
    replace. The ids of all that are gone: their bytes are the caller's to erase."""
    gone = [id] if id else []
    for document in documents.of_file(connection, id):
        documents.drop(connection, document)
        if document.status == "in_progress":
            gone += drop(connection, document.replaces)
    connection.execute("DELETE FROM files WHERE id = ?", (id,))
    return gone


def all_ids(connection: Connection) -> set[str]:
    return {row[0] for row in connection.execute("SELECT id FROM files")}


def expired_ids(connection: Connection, now: float) -> list[str]:
    return [row[0] for row in connection.execute("SELECT id FROM files WHERE expires_at <= ?", (now,))]


def _file(row: tuple[object, ...]) -> StoredFile:
    return StoredFile(**dict(zip(StoredFile.__struct_fields__, row, strict=True)))  # type: ignore[arg-type]
