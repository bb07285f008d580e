"""From decoded JSON to a typed request, or to an error that names the parameter.

msgspec converts at C speed and stops at the first fault; only then does this module walk the value beside
its type to find which parameter is at fault, so a status or a parameter name is never read from a message.
"""

from __future__ import annotations

import difflib
import types
import typing
from typing import Any, TypeVar

import msgspec

from appliance.errors import InvalidRequest, InvalidValue, MissingParameter, UnknownParameter

Request = TypeVar("Request")
SHOWN_CHARS = 80


def convert(value: Any, kind: type[Request]) -> Request:
    """`value` as `kind`, a msgspec struct.

    Raises UnknownParameter, MissingParameter or InvalidValue with `param` such as `messages[0].role`.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise _find(value, kind, "", str(error)) from error


def _find(value: Any, kind: Any, path: str, message: str) -> InvalidRequest:
    bare = _bare(kind)
    if _is_struct(bare):
        if isinstance(value, dict):
            return _find_in_struct(value, bare, path, message)
    elif _is_union(bare):
        for member in typing.get_args(bare):
            if _fits(value, member):
                return _find(value, member, path, _complaint(value, member) or message)
    elif typing.get_origin(bare) in (list, tuple) and isinstance(value, list):
        item_kind = typing.get_args(bare)[0]
        for index, item in enumerate(value):
            if (complaint := _complaint(item, item_kind)) is not None:
                return _find(item, item_kind, f"{path}[{index}]", complaint)
    elif typing.get_origin(bare) is dict and isinstance(value, dict):
        item_kind = typing.get_args(bare)[1]
        for key, item in value.items():
            if (complaint := _complaint(item, item_kind)) is not None:
                return _find(item, item_kind, f"{path}.{key}", complaint)
    where = path or "the request body"
    return InvalidValue(f"{where} is {_shown(value)}: {_sentence(message)}", param=path or None)


def _find_in_struct(value: dict[str, Any], kind: type, path: str, message: str) -> InvalidRequest:
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    config = typing.cast("type[msgspec.Struct]", kind).__struct_config__
    tag = {config.tag_field} if config.tag_field else set()
    for key in value:
        if key not in fields and key not in tag:
            near = difflib.get_close_matches(str(key), fields, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            where = _joined(path, str(key))
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
    return f"{path}.{name}" if path else name


def _shown(value: Any) -> str:
    if isinstance(value, (dict, list)):
        return f"an object with {len(value)} keys" if isinstance(value, dict) else f"a list of {len(value)}"
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= SHOWN_CHARS else text[:SHOWN_CHARS] + "…"


def _sentence(message: str) -> str:
    """msgspec's words without its own notion of a path, which this module knows better."""
    return message.partition(" - at `")[0]
