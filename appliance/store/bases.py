"""Knowledge bases: who owns them, who may read them, and their settings.

Every function that takes a principal checks it here, in the data layer: a base that the principal may not
read does not exist for them; one that they may only read is Forbidden to change.
"""

from __future__ import annotations

import time

import msgspec

from appliance.errors import Forbidden, InvalidValue, NotFound
from appliance.principal import Principal
from appliance.store.database import Connection
from appliance.store.paging import page_of
from appliance.store.rows import Base, Edition, Page

SELECT = """
SELECT b.id, b.owner, b.name, b.description, b.metadata, b.created_at, b.active_at, b.expires_days,
       b.chunk_tokens, b.overlap_tokens,
       e.id, e.base, e.embedder, e.fingerprint, e.dimensions, e.generation, e.graph_generation, e.graph_digest
FROM bases b JOIN editions e ON e.id = b.edition
"""
READABLE = """
(b.owner = ? OR EXISTS(SELECT 1 FROM readers r WHERE r.base = b.id AND r.principal IN (?, '*')))
AND (? IS NULL OR EXISTS(SELECT 1 FROM json_each(?) s WHERE b.id GLOB s.value OR b.name GLOB s.value))
"""
BASE_FIELDS = 10


def add(connection: Connection, base: Base) -> None:
    """Insert the base; its edition follows, see `editions.add`."""
    connection.execute(
        "INSERT INTO bases(id, owner, name, description, metadata, created_at, active_at, expires_days,"
        " chunk_tokens, overlap_tokens) VALUES(?,?,?,?,?,?,?,?,?,?)",
        (
            base.id,
            base.owner,
            base.name,
            base.description,
            _json(base.metadata),
            base.created_at,
            base.active_at,
            base.expires_days,
            base.chunk_tokens,
            base.overlap_tokens,
        ),
    )


def get(connection: Connection, principal: Principal, id: str) -> Base:
    """Raises NotFound, also for a base that the principal may not read."""
    row = connection.execute(f"{SELECT} WHERE b.id = ? AND {READABLE}", (id, *_reader(principal))).fetchone()
    if row is None:
        raise NotFound(f"there is no knowledge base {id!r}", param="vector_store_id")
    return _base(row)


def get_owned(connection: Connection, principal: Principal, id: str) -> Base:
    """Raises NotFound, or Forbidden for a base that the principal may only read."""
    base = get(connection, principal, id)
    if base.owner != principal.id:
        raise Forbidden(f"the knowledge base {base.name!r} may only be changed by its owner")
    return base


def find(connection: Connection, principal: Principal, name: str) -> Base:
    """The base with that name or id. Raises NotFound, or InvalidValue when several have the name."""
    rows = connection.execute(
        f"{SELECT} WHERE (b.name = ? OR b.id = ?) AND {READABLE} LIMIT 2",
        (name, name, *_reader(principal)),
    ).fetchall()
    if not rows:
        raise NotFound(f"there is no knowledge base {name!r}", param="knowledge", code="knowledge_not_found")
    if len(rows) > 1:
        raise InvalidValue(
            f"several knowledge bases are named {name!r}; say which by its id", param="knowledge"
        )
    return _base(rows[0])


def is_name_taken(connection: Connection, principal: Principal, name: str) -> bool:
    """Whether the principal has a base of that name."""
    row = connection.execute(
        "SELECT 1 FROM bases WHERE owner = ? AND name = ?", (principal.id, name)
    ).fetchone()
    return row is not None


def find_page(connection: Connection, principal: Principal, page: Page) -> tuple[list[Base], bool]:
    """The bases that the principal may read, and whether there are more."""
    rows, has_more = page_of(connection, SELECT, READABLE, _reader(principal), ("b.created_at", "b.id"), page)
    return [_base(row) for row in rows], has_more


def edition_of(connection: Connection, id: str) -> Edition:
    """The base's current edition, for work that was authorised when it was queued. Raises NotFound."""
    row = connection.execute(f"{SELECT} WHERE b.id = ?", (id,)).fetchone()
    if row is None:
        raise NotFound(f"there is no knowledge base {id!r}", param="vector_store_id")
    return _base(row).edition


def owner_of(connection: Connection, id: str) -> str:
    """Raises NotFound."""
    row = connection.execute("SELECT owner FROM bases WHERE id = ?", (id,)).fetchone()
    if row is None:
        raise NotFound(f"there is no knowledge base {id!r}", param="vector_store_id")
    return str(row[0])


def all_current_editions(connection: Connection) -> set[int]:
    return {int(row[0]) for row in connection.execute("SELECT edition FROM bases WHERE edition IS NOT NULL")}


def update(
    connection: Connection,
    id: str,
    *,
    name: str | None = None,
    metadata: dict[str, str] | None = None,
    expires_days: int | None = None,
    keeps_expiry: bool = True,
) -> None:
    """Change what is given; `keeps_expiry=False` sets `expires_days`, None included."""
    if name is not None:
        connection.execute("UPDATE bases SET name = ? WHERE id = ?", (name, id))
    if metadata is not None:
        connection.execute("UPDATE bases SET metadata = ? WHERE id = ?", (_json(metadata), id))
    if not keeps_expiry:
        connection.execute("UPDATE bases SET expires_days = ? WHERE id = ?", (expires_days, id))


def touch(connection: Connection, id: str) -> None:
    connection.execute("UPDATE bases SET active_at = ? WHERE id = ?", (time.time(), id))


def remove(connection: Connection, id: str) -> None:
    """Takes the base and its documents; its editions go by `editions.remove` before."""
    connection.execute("DELETE FROM bases WHERE id = ?", (id,))


def set_edition(connection: Connection, id: str, edition: int) -> None:
    connection.execute("UPDATE bases SET edition = ? WHERE id = ?", (edition, id))


def set_readers(connection: Connection, id: str, principals: tuple[str, ...]) -> None:
    """Who else may read the base; `*` is everyone."""
    connection.execute("DELETE FROM readers WHERE base = ?", (id,))
    connection.executemany("INSERT INTO readers VALUES(?, ?)", [(id, reader) for reader in set(principals)])


def readers_of(connection: Connection, id: str) -> tuple[str, ...]:
    rows = connection.execute("SELECT principal FROM readers WHERE base = ? ORDER BY principal", (id,))
    return tuple(str(row[0]) for row in rows)


def usage_bytes(connection: Connection, id: str) -> int:
    """What the base takes: texts and vectors."""
    texts = connection.execute(
        "SELECT coalesce(sum(text_bytes), 0) FROM documents WHERE base = ?", (id,)
    ).fetchone()
    vectors = connection.execute(
        "SELECT coalesce(sum(v.count * e.dimensions * 4), 0) FROM bases b JOIN editions e ON e.id = b.edition"
        " JOIN vectors v ON v.edition = e.id WHERE b.id = ?",
        (id,),
    ).fetchone()
    assert texts is not None
    assert vectors is not None
    return int(texts[0]) + int(vectors[0])


def _reader(principal: Principal) -> tuple[str, str, str | None, str | None]:
    """What READABLE is asked with."""
    scope = principal.grant.bases
    patterns = None if scope is None else msgspec.json.encode(scope).decode()
    return principal.id, principal.id, patterns, patterns


def _base(row: tuple[object, ...]) -> Base:
    fields = dict(zip(Base.__struct_fields__, row[:BASE_FIELDS], strict=False))
    fields["metadata"] = msgspec.json.decode(str(fields["metadata"]))
    edition = Edition(**dict(zip(Edition.__struct_fields__, row[BASE_FIELDS:], strict=True)))  # type: ignore[arg-type]
    return Base(**fields, edition=edition)  # type: ignore[arg-type]


def _json(value: dict[str, str]) -> str:
    return msgspec.json.encode(value).decode()
