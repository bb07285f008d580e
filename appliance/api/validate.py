"""From decoded JSON to a typed request, or to an error that names the parameter.

msgspec converts at C speed and stops at the first fault; only then does this module walk the value beside
its type to find which parameter is at fault, so a status or a parameter name is never read from a message.
"""

from __future__ import annotations

import difflib
import math
import types
import typing
from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec

from appliance.errors import InvalidRequest, InvalidValue, MissingParameter, UnknownParameter

Request = TypeVar("Request")
SHOWN_CHARS = 80
SEARCHED_TOGETHER = 1024  # entries of a long list that are checked at once


def convert(value: Any, kind: type[Request]) -> Request:
    """`value` as `kind`, a msgspec struct.

    Raises UnknownParameter, MissingParameter or InvalidValue with `param` such as `messages[0].role`.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError:
        value = _with_whole_numbers(value)
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise _find(value, kind, "", str(error)) from error


def convert_at(value: Any, kind: Any, path: str) -> Any:
    """As `convert`, for a part of a request that stands at `path`; `kind` may be any type."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise _find(value, kind, path, str(error)) from error


def _with_whole_numbers(value: Any) -> Any:
    """`value` with its parameters such as 2.0 as 2: JSON has one kind of number, msgspec has two."""
    if not isinstance(value, dict):
        return value
    return {
        name: int(entry) if isinstance(entry, float) and entry.is_integer() else entry
        for name, entry in value.items()
    }


def _find(value: Any, kind: Any, path: str, message: str) -> InvalidRequest:
    bare = _bare(kind)
    origin = typing.get_origin(bare)
    if _is_struct(bare):
        if isinstance(value, dict):
            return _find_in_struct(value, bare, path, message)
    elif _is_union(bare):
        for member in typing.get_args(bare):
            if _fits(value, member):
                return _find(value, member, path, _complaint(value, member) or message)
    elif origin in (list, dict) and isinstance(value, origin) and len(value) > (most := _most_entries(kind)):
        return InvalidValue(f"{path} has {len(value)} entries; the limit is {most:.0f}", param=path)
    elif origin is list and isinstance(value, list):
        (item_kind,) = typing.get_args(bare)
        for index, item in _suspects(value, item_kind):
            if (complaint := _complaint(item, item_kind)) is not None:
                return _find(item, item_kind, f"{path}[{index}]", complaint)
    elif origin is dict and isinstance(value, dict):
        key_kind, item_kind = typing.get_args(bare)
        for key, item in value.items():
            if (complaint := _complaint(key, key_kind)) is not None:
                return InvalidValue(f"{path} has the key {_shown(key)}: {_sentence(complaint)}", param=path)
            if (complaint := _complaint(item, item_kind)) is not None:
                return _find(item, item_kind, _joined(path, key), complaint)
    where = path or "the request body"
    return InvalidValue(f"{where} is {_shown(value)}: {_sentence(message)}", param=path or None)


def _find_in_struct(value: dict[str, Any], kind: type, path: str, message: str) -> InvalidRequest:
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    config = typing.cast("type[msgspec.Struct]", kind).__struct_config__
    tag = {config.tag_field} if config.tag_field else set()
    for key in value:
        if key not in fields and key not in tag:
            near = difflib.get_close_matches(_clipped(key), fields, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            where = _joined(path, key)
            return UnknownParameter(f"there is no parameter {where!r} here.{hint}", param=where)
    hints = typing.get_type_hints(kind, include_extras=True)
    for name, field in fields.items():
        where = _joined(path, name)
        if name not in value:
            if field.required:
                return MissingParameter(f"the parameter {where!r} is required", param=where)
            continue
        if (complaint := _complaint(value[name], hints[field.name])) is not None:
            return _find(value[name], hints[field.name], where, complaint)
    return InvalidValue(_sentence(message), param=path or None)


def _most_entries(kind: Any) -> float:
    metas = (meta for meta in getattr(kind, "__metadata__", ()) if isinstance(meta, msgspec.Meta))
    return next((meta.max_length for meta in metas if meta.max_length is not None), math.inf)


def _suspects(value: list[Any], item_kind: Any) -> Iterator[tuple[int, Any]]:
    """The entries of the first stretch of a list that has one at fault."""
    for start in range(0, len(value), SEARCHED_TOGETHER):
        stretch = value[start : start + SEARCHED_TOGETHER]
        if _complaint(stretch, list[item_kind]) is not None:
            yield from enumerate(stretch, start)
            return


def _complaint(value: Any, kind: Any) -> str | None:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        return str(error)
    return None


def _fits(value: Any, kind: Any) -> bool:
    """Whether `kind` is the union's member that `value` was meant for: an object, a list, or a number."""
    bare = _bare(kind)
    if isinstance(value, dict):
        return _is_struct(bare) or typing.get_origin(bare) is dict
    if isinstance(value, list):
        return typing.get_origin(bare) in (list, tuple)
    if isinstance(value, bool):
        return bare is bool
    if isinstance(value, (int, float)):
        return bare in (int, float)
    return isinstance(value, str) and (bare is str or typing.get_origin(bare) is typing.Literal)


def _bare(kind: Any) -> Any:
    while hasattr(kind, "__metadata__"):
        kind = kind.__origin__
    return kind


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _is_union(kind: Any) -> bool:
    return typing.get_origin(kind) in (typing.Union, types.UnionType)


def _joined(path: str, name: str) -> str:
    return f"{path}.{_clipped(name)}" if path else _clipped(name)


def _clipped(text: str) -> str:
    """A client's own word, short enough to be looked up and told back."""
    return text if len(text) <= SHOWN_CHARS else text[:SHOWN_CHARS] + "…"


def _shown(value: Any) -> str:
    if isinstance(value, (dict, list)):
        return f"an object with {len(value)} keys" if isinstance(value, dict) else f"a list of {len(value)}"
    return _clipped(msgspec.json.encode(value).decode())


def _sentence(message: str) -> str:
    """msgspec's words without its own notion of a path, which this module knows better."""
    return message.partition(" - at `")[0]
