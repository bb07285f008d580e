"""Whether a call's arguments fit its tool's JSON schema, as far as a misread call would show.

Checks types, required and unknown members, constants, enumerations, bounds and alternatives; what it does not
know, a schema's own mistakes included, it lets pass. Constrained answers do not need it: their grammar holds
the whole schema.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeGuard

MAX_DEPTH = 64
MAX_VISITS = 10_000  # a schema whose parts refer to each other could keep a checker busy for ever
TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "integer": lambda value: _is_number(value) and (isinstance(value, int) or value.is_integer()),
    "number": lambda value: _is_number(value),
}
BOUNDS: dict[str, Callable[[float, float], bool]] = {
    "minimum": lambda value, bound: value < bound,
    "maximum": lambda value, bound: value > bound,
    "exclusiveMinimum": lambda value, bound: value <= bound,
    "exclusiveMaximum": lambda value, bound: value >= bound,
}


def complaint(schema: Any, value: Any) -> str | None:
    """What is wrong with `value`, as in `'city' is missing from the arguments`; None: it fits."""
    return _Check(schema).run(schema, value, "the arguments", 0)


class _Check:
    def __init__(self, root: Any) -> None:
        self._root = root
        self._visits = 0

    def run(self, schema: Any, value: Any, where: str, depth: int) -> str | None:
        self._visits += 1
        if schema is False:
            return f"{where} may not be given"
        if not isinstance(schema, dict) or depth > MAX_DEPTH or self._visits > MAX_VISITS:
            return None
        if "$ref" in schema:
            return self.run(self._resolve(schema["$ref"]), value, where, depth + 1)
        return (
            _wrong_type(schema, value, where)
            or _not_listed(schema, value, where)
            or _outside(schema, value, where)
            or self._wrong_member(schema, value, where, depth)
            or self._wrong_item(schema, value, where, depth)
            or self._no_alternative(schema, value, where, depth)
        )

    def _wrong_member(self, schema: dict[str, Any], value: Any, where: str, depth: int) -> str | None:
        if not isinstance(value, dict):
            return None
        for name in _part(schema, "required", list):
            if isinstance(name, str) and name not in value:
                return f"{name!r} is missing from {where}"
        members = _part(schema, "properties", dict)
        others = True if "patternProperties" in schema else schema.get("additionalProperties", True)
        for name, item in value.items():
            if name not in members and others is False:
                return f"{where} has no member {name!r}"
            if found := self.run(members.get(name, others), item, repr(name), depth + 1):
                return found
        return None

    def _wrong_item(self, schema: dict[str, Any], value: Any, where: str, depth: int) -> str | None:
        if not isinstance(value, list):
            return None
        items = schema.get("items", True)
        found = (self.run(items, item, f"{where}[{index}]", depth + 1) for index, item in enumerate(value))
        return next((each for each in found if each), None)

    def _no_alternative(self, schema: dict[str, Any], value: Any, where: str, depth: int) -> str | None:
        for part in _part(schema, "allOf", list):
            if found := self.run(part, value, where, depth + 1):
                return found
        for keyword in ("anyOf", "oneOf"):
            parts = _part(schema, keyword, list)
            if parts and all(self.run(part, value, where, depth + 1) for part in parts):
                return f"{where} fits no alternative of {keyword}"
        return None

    def _resolve(self, reference: Any) -> Any:
        """The schema at a local reference such as `#/$defs/city`; True, which fits all, for any other."""
        if not isinstance(reference, str) or not reference.startswith("#"):
            return True
        found = self._root
        for part in reference[1:].split("/")[1:]:
            if not isinstance(found, dict):
                return True
            found = found.get(part.replace("~1", "/").replace("~0", "~"), True)
        return found


def _wrong_type(schema: dict[str, Any], value: Any, where: str) -> str | None:
    kinds = schema.get("type")
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if not isinstance(kinds, list) or not kinds or any(_is_a(kind, value) for kind in kinds):
        return None
    return f"{where} should be of type {' or '.join(map(str, kinds))}"


def _not_listed(schema: dict[str, Any], value: Any, where: str) -> str | None:
    if "const" in schema and not _same(schema["const"], value):
        return f"{where} should be {schema['const']!r}"
    listed = _part(schema, "enum", list)
    if listed and not any(_same(each, value) for each in listed):
        return f"{where} is none of the values allowed"
    return None


def _outside(schema: dict[str, Any], value: Any, where: str) -> str | None:
    for keyword, is_outside in BOUNDS.items():
        bound = schema.get(keyword)
        if _is_number(value) and _is_number(bound) and is_outside(value, bound):
            return f"{where} is outside its {keyword} of {bound}"
    return None


def _part(schema: dict[str, Any], keyword: str, kind: type) -> Any:
    """The keyword's value, or an empty one when it is missing or of a kind it may not be."""
    value = schema.get(keyword)
    return value if isinstance(value, kind) else kind()


def _is_a(kind: Any, value: Any) -> bool:
    check = TYPES.get(kind) if isinstance(kind, str) else None
    return check is None or check(value)


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _same(expected: Any, value: Any) -> bool:
    """Equal as JSON: 1 is 1.0, but true is not 1."""
    return bool(expected == value) and isinstance(expected, bool) == isinstance(value, bool)
