"""Documents: files in a base, what became of each, and the text that was read out of it.

A document `in_progress` is work to be done: these rows are the ingest queue, so a restart loses none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from appliance.errors import InvalidValue, NotFound
from appliance.store import editions
from appliance.store.database import Connection
from appliance.store.paging import page_of
from appliance.store.rows import Attributes, Batch, Counts, Document, DocumentStatus, ErrorCode, Page

SELECT = """
SELECT d.id, d.base, d.file, f.name, f.bytes, d.batch, d.status, d.error_code, d.error_message,
       d.attributes, d.chunk_tokens, d.overlap_tokens, d.text_bytes, d.created_at, d.replaces
FROM documents d JOIN files f ON f.id = d.file
"""


def add(
    connection: Connection,
    *,
    base: str,
    file: str,
    batch: str = "",
    replaces: str = "",
    attributes: Attributes,
    chunk_tokens: int,
    overlap_tokens: int,
    created_at: float,
) -> int:
    """Queue the file for the base; `replaces` goes when it has been read. Raises InvalidValue when it is in
    there already."""
    if connection.execute("SELECT 1 FROM documents WHERE base = ? AND file = ?", (base, file)).fetchone():
        raise InvalidValue(f"the file {file} is in this knowledge base already", param="file_id")
    connection.execute(
        "INSERT INTO documents(base, file, batch, status, replaces, attributes, chunk_tokens, overlap_tokens,"
        " created_at) VALUES(?,?,?,'in_progress',?,?,?,?,?)",
        (base, file, batch, replaces, _json(attributes), chunk_tokens, overlap_tokens, created_at),
    )
    return connection.last_insert_rowid()


def get(connection: Connection, base: str, file: str) -> Document:
    """Raises NotFound."""
    found = find_file(connection, base, file)
    if found is None:
        raise NotFound(f"there is no file {file!r} in this knowledge base", param="file_id")
    return found


def find_file(connection: Connection, base: str, file: str) -> Document | None:
    row = connection.execute(f"{SELECT} WHERE d.base = ? AND d.file = ?", (base, file)).fetchone()
    return None if row is None else _document(row)


def find(connection: Connection, id: int) -> Document | None:
    row = connection.execute(f"{SELECT} WHERE d.id = ?", (id,)).fetchone()
    return None if row is None else _document(row)


def find_page(
    connection: Connection, base: str, page: Page, *, status: str = "", batch: str = ""
) -> tuple[list[Document], bool]:
    """The base's documents, of one status or batch if asked, and whether there are more."""
    rows, has_more = page_of(
        connection,
        SELECT,
        "d.base = ? AND (? = '' OR d.status = ?) AND (? = '' OR d.batch = ?)",
        (base, status, status, batch, batch),
        ("d.created_at", "d.file"),
        page,
    )
    return [_document(row) for row in rows], has_more


def of_file(connection: Connection, file: str) -> list[Document]:
    return [_document(row) for row in connection.execute(f"{SELECT} WHERE d.file = ?", (file,))]


def attributes_of(connection: Connection, base: str) -> dict[int, Attributes]:
    """Every completed document's attributes, by its id."""
    rows = connection.execute(
        "SELECT id, attributes FROM documents WHERE base = ? AND status = 'completed'", (base,)
    )
    return {int(row[0]): msgspec.json.decode(str(row[1])) for row in rows}


def of_base(connection: Connection, base: str) -> list[Document]:
    return [_document(row) for row in connection.execute(f"{SELECT} WHERE d.base = ?", (base,))]


def waiting(connection: Connection, after: int, limit: int) -> list[Document]:
    """The documents that have waited longest, of those with an id above `after`."""
    rows = connection.execute(
        f"{SELECT} WHERE d.status = 'in_progress' AND d.id > ? ORDER BY d.id LIMIT ?", (after, limit)
    )
    return [_document(row) for row in rows]


def count_waiting(connection: Connection) -> int:
    row = connection.execute("SELECT count(*) FROM documents WHERE status = 'in_progress'").fetchone()
    assert row is not None
    return int(row[0])


def counts(connection: Connection, base: str, batch: str = "") -> Counts:
    rows = connection.execute(
        "SELECT status, count(*) FROM documents WHERE base = ? AND (? = '' OR batch = ?) GROUP BY status",
        (base, batch, batch),
    )
    return Counts(**dict(rows))


def set_status(
    connection: Connection, id: int, status: DocumentStatus, code: ErrorCode = "", message: str = ""
) -> bool:
    """From `in_progress` to how it ended; False when it is no longer in progress."""
    connection.execute(
        "UPDATE documents SET status = ?, error_code = ?, error_message = ?"
        " WHERE id = ? AND status = 'in_progress'",
        (status, code, message, id),
    )
    return connection.changes() == 1


def set_attributes(connection: Connection, id: int, attributes: Attributes) -> None:
    connection.execute("UPDATE documents SET attributes = ? WHERE id = ?", (_json(attributes), id))


def set_replaces(connection: Connection, id: int, file: str) -> None:
    connection.execute("UPDATE documents SET replaces = ? WHERE id = ?", (file, id))


def cancel_batch(connection: Connection, batch: str) -> None:
    connection.execute(
        "UPDATE documents SET status = 'cancelled' WHERE batch = ? AND status = 'in_progress'", (batch,)
    )


def drop(connection: Connection, document: Document) -> None:
    """Takes the document, its text and its chunks."""
    for edition in editions.of_base(connection, document.base):
        editions.bury(connection, edition, document.id)
    connection.execute("DELETE FROM documents WHERE id = ?", (document.id,))


# Text


def set_text(connection: Connection, id: int, text: str, marks: bytes) -> None:
    connection.execute("INSERT OR REPLACE INTO texts VALUES(?, ?, ?)", (id, text, marks))
    connection.execute("UPDATE documents SET text_bytes = ? WHERE id = ?", (len(text.encode()), id))


def text(connection: Connection, id: int) -> tuple[str, bytes]:
    """The document's text and its marks; empty when none was read."""
    row: Any = connection.execute("SELECT text, marks FROM texts WHERE document = ?", (id,)).fetchone()
    return ("", b"") if row is None else (row[0], row[1])


# Batches


def add_batch(connection: Connection, batch: Batch) -> None:
    connection.execute("INSERT INTO batches VALUES(?, ?, ?)", (batch.id, batch.base, batch.created_at))


def get_batch(connection: Connection, base: str, id: str) -> Batch:
    """Raises NotFound."""
    row: Any = connection.execute(
        "SELECT id, base, created_at FROM batches WHERE base = ? AND id = ?", (base, id)
    ).fetchone()
    if row is None:
        raise NotFound(f"there is no file batch {id!r} in this knowledge base", param="batch_id")
    return Batch(id=row[0], base=row[1], created_at=row[2])


def _document(row: Sequence[Any]) -> Document:
    fields = dict(zip(Document.__struct_fields__, row, strict=True))
    fields["attributes"] = msgspec.json.decode(fields["attributes"])
    return Document(**fields)


def _json(value: Attributes) -> str:
    return msgspec.json.encode(value).decode()
