"""Lists in pages, by age, with the cursor that OpenAI's clients send: the id of an entry already seen."""

from __future__ import annotations

from typing import Any

from appliance.errors import InvalidValue
from appliance.store.database import Connection
from appliance.store.rows import Page


def page_of(
    connection: Connection,
    select: str,
    where: str,
    parameters: tuple[Any, ...],
    keys: tuple[str, str],
    page: Page,
) -> tuple[list[tuple[Any, ...]], bool]:
    """The page's rows in order, and whether there are more in its direction.

    `select` is everything up to WHERE; `keys` are the expressions for age and cursor id. All of these are
    this room's own text; whatever a client sent is bound. Raises InvalidValue for an unknown cursor.
    """
    age, id = keys
    cursor = page.after or page.before
    forward = page.order == "asc"
    if page.before and not page.after:
        forward = not forward
    condition = where
    if cursor:
        found = connection.execute(
            f"SELECT {age} {select[select.index('FROM') :]} WHERE {where} AND {id} = ?",
            (*parameters, cursor),
        ).fetchone()
        if found is None:
            name = "after" if page.after else "before"
            raise InvalidValue(f"{name} is {cursor!r}, which is not in this list", param=name)
        condition = f"{where} AND ({age}, {id}) {'>' if forward else '<'} (?, ?)"
        parameters = (*parameters, found[0], cursor)
    direction = "ASC" if forward else "DESC"
    rows = connection.execute(
        f"{select} WHERE {condition} ORDER BY {age} {direction}, {id} {direction} LIMIT ?",
        (*parameters, page.limit + 1),
    ).fetchall()
    has_more = len(rows) > page.limit
    rows = rows[: page.limit]
    if page.before and not page.after:
        rows.reverse()
    return rows, has_more
