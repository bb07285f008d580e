"""Kept objects and their items: rows of the archive. Every query that a client causes names its owner.

An object of another principal does not exist for whoever asks. Nothing here reads a body.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from appliance.errors import NotFound
from appliance.principal import Principal
from appliance.store.database import Connection
from appliance.store.paging import page_of
from appliance.store.rows import Page

COLUMNS = "id, owner, kind, state, model, metadata, created_at, expires_at, body, principal"


class Kept(Struct, frozen=True, kw_only=True):
    """`kind` names the surface's object; `state` is "" or what upkeep looks for; `body` is JSON.

    `principal`: on whose behalf work on it goes on without a request, as JSON; empty: there is no such work.
    """

    id: str
    owner: str
    kind: str
    body: bytes
    created_at: float
    expires_at: float | None = None
    state: str = ""
    model: str = ""
    metadata: dict[str, str] = {}
    principal: str = ""


class KeptItem(Struct, frozen=True, kw_only=True):
    id: str
    body: bytes
    side: str = ""


def add(connection: Connection, kept: Kept, items: Sequence[KeptItem] = ()) -> None:
    connection.execute(
        f"INSERT INTO objects({COLUMNS}) VALUES(?,?,?,?,?,?,?,?,?,?)",
        (
            kept.id,
            kept.owner,
            kept.kind,
            kept.state,
            kept.model,
            _json(kept.metadata),
            kept.created_at,
            kept.expires_at,
            kept.body,
            kept.principal,
        ),
    )
    append(connection, kept.id, items)


def get(connection: Connection, principal: Principal, kind: str, id: str) -> Kept:
    """Raises NotFound, also for another principal's object."""
    row = connection.execute(
        f"SELECT {COLUMNS} FROM objects WHERE id = ? AND owner = ? AND kind = ?",  # noqa: S608
        (id, principal.id, kind),
    ).fetchone()
    if row is None:
        raise NotFound(f"there is no {kind} {id!r}", param="id")
    return _kept(row)


def find_page(
    connection: Connection,
    principal: Principal,
    kind: str,
    page: Page,
    *,
    model: str = "",
    metadata: dict[str, str] | None = None,
) -> tuple[list[Kept], bool]:
    """The principal's objects of a kind, of a model and with all of `metadata` where given."""
    where = "owner = ? AND kind = ? AND (? = '' OR model = ?)"
    bound: tuple[str, ...] = (principal.id, kind, model, model)
    for name, value in (metadata or {}).items():
        where += " AND EXISTS(SELECT 1 FROM json_each(metadata) AS m WHERE m.key = ? AND m.value = ?)"
        bound = (*bound, name, value)
    rows, has_more = page_of(
        connection,
        f"SELECT {COLUMNS} FROM objects",  # noqa: S608
        where,
        bound,
        ("created_at", "id"),
        page,
    )
    return [_kept(row) for row in rows], has_more


def in_state(connection: Connection, kind: str, states: Sequence[str]) -> list[Kept]:
    """Everybody's objects in one of the states, oldest first: for upkeep, never for a client."""
    marks = ",".join("?" * len(states))
    rows = connection.execute(
        f"SELECT {COLUMNS} FROM objects WHERE kind = ? AND state IN ({marks}) ORDER BY created_at",  # noqa: S608
        (kind, *states),
    )
    return [_kept(row) for row in rows]


def update(
    connection: Connection, id: str, *, body: bytes, state: str, metadata: dict[str, str] | None = None
) -> None:
    """Of an object that the caller has got, or that is its own work. Does nothing when it is gone."""
    connection.execute("UPDATE objects SET body = ?, state = ? WHERE id = ?", (body, state, id))
    if metadata is not None:
        connection.execute("UPDATE objects SET metadata = ? WHERE id = ?", (_json(metadata), id))


def exists(connection: Connection, id: str) -> bool:
    return connection.execute("SELECT 1 FROM objects WHERE id = ?", (id,)).fetchone() is not None


def remove(connection: Connection, id: str) -> None:
    connection.execute("DELETE FROM objects WHERE id = ?", (id,))


def count(connection: Connection, principal: Principal, kind: str) -> int:
    row = connection.execute(
        "SELECT count(*) FROM objects WHERE owner = ? AND kind = ?", (principal.id, kind)
    ).fetchone()
    assert row is not None
    return int(row[0])


# Upkeep


def remove_expired(connection: Connection, now: float) -> None:
    connection.execute("DELETE FROM objects WHERE expires_at <= ?", (now,))


def remove_oldest(connection: Connection, kind: str, keep: int) -> None:
    """All but the newest `keep` of everybody's objects of a kind, finished or not."""
    connection.execute(
        "DELETE FROM objects WHERE id IN (SELECT id FROM objects WHERE kind = ?"
        " ORDER BY created_at DESC LIMIT -1 OFFSET ?)",
        (kind, keep),
    )


# Items


def append(connection: Connection, holder: str, items: Sequence[KeptItem]) -> None:
    row = connection.execute("SELECT max(place) FROM items WHERE holder = ?", (holder,)).fetchone()
    place = 0 if row is None or row[0] is None else int(row[0]) + 1
    connection.executemany(
        "INSERT INTO items(holder, place, side, id, body) VALUES(?,?,?,?,?)",
        [(holder, place + n, item.side, item.id, item.body) for n, item in enumerate(items)],
    )


def items(connection: Connection, holder: str, limit: int) -> list[KeptItem]:
    """An object's newest `limit` items, in their order."""
    rows = connection.execute(
        "SELECT id, side, body FROM items WHERE holder = ? ORDER BY place DESC LIMIT ?", (holder, limit)
    ).fetchall()
    return [KeptItem(id=id, side=side, body=body) for id, side, body in reversed(rows)]


def item_ids(connection: Connection, holder: str) -> set[str]:
    return {row[0] for row in connection.execute("SELECT id FROM items WHERE holder = ?", (holder,))}


def items_from(connection: Connection, holder: str, start: int, limit: int) -> list[KeptItem]:
    rows = connection.execute(
        "SELECT id, side, body FROM items WHERE holder = ? AND place >= ? ORDER BY place LIMIT ?",
        (holder, start, limit),
    )
    return [KeptItem(id=id, side=side, body=body) for id, side, body in rows]


def items_page(
    connection: Connection, holder: str, page: Page, side: str = ""
) -> tuple[list[KeptItem], bool]:
    """Part of an object's items on one side, and whether there are more."""
    rows, has_more = page_of(
        connection,
        "SELECT id, side, body FROM items",
        "holder = ? AND side = ?",
        (holder, side),
        ("place", "id"),
        page,
    )
    return [KeptItem(id=id, side=side, body=body) for id, side, body in rows], has_more


def item(connection: Connection, principal: Principal, id: str, holder: str = "") -> KeptItem:
    """One item, of any of the principal's objects or of the one named. Raises NotFound."""
    row = connection.execute(
        "SELECT i.id, i.side, i.body FROM items i JOIN objects o ON o.id = i.holder"
        " WHERE i.id = ? AND o.owner = ? AND (? = '' OR i.holder = ?) LIMIT 1",
        (id, principal.id, holder, holder),
    ).fetchone()
    if row is None:
        raise NotFound(f"there is no item {id!r}", param="id")
    return KeptItem(id=row[0], side=row[1], body=row[2])


def remove_item(connection: Connection, holder: str, id: str) -> None:
    connection.execute("DELETE FROM items WHERE holder = ? AND id = ?", (holder, id))


def count_items(connection: Connection, holder: str) -> int:
    row = connection.execute("SELECT count(*) FROM items WHERE holder = ?", (holder,)).fetchone()
    assert row is not None
    return int(row[0])


def _kept(row: tuple[object, ...]) -> Kept:
    fields = dict(zip(COLUMNS.split(", "), row, strict=True))
    fields["metadata"] = msgspec.json.decode(str(fields["metadata"]))
    return Kept(**fields)  # type: ignore[arg-type]


def _json(value: dict[str, str]) -> str:
    return msgspec.json.encode(value).decode()
