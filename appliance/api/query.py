"""What stands behind the `?` of a URL, typed like a body and refused like one."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Sequence
from typing import TypeVar

import msgspec
from starlette.requests import Request

from appliance.errors import InvalidValue, UnknownParameter

Query = TypeVar("Query", bound=msgspec.Struct)


def read_query(request: Request, kind: type[Query], *, but: Sequence[str] = ()) -> Query:
    """The query parameters as `kind`, a struct whose fields all have defaults; `but` those read elsewhere.

    Raises UnknownParameter, or InvalidValue naming the parameter.
    """
    hints = typing.get_type_hints(kind, include_extras=True)
    values = {}
    for name, text in request.query_params.items():
        if name in but:
            continue
        if name not in hints:
            near = difflib.get_close_matches(name, hints, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise UnknownParameter(f"there is no query parameter {name!r} here.{hint}", param=name)
        try:
            values[name] = msgspec.convert(text, hints[name], strict=False)
        except msgspec.ValidationError as error:
            raise InvalidValue(f"{name} is {text[:80]!r}: {error}", param=name) from error
    return kind(**values)
