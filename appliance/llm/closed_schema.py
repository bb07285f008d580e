"""A JSON schema whose objects have no members but those it names, where it says nothing about others. Pure.

Whatever fits the closed schema fits the given one. A small model that may invent members does, and does not
find an end; other servers read schemas so too. A schema that combines several on one object stays as it is:
there, each may name members that another does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

COMBINING = frozenset(
    ["allOf", "if", "then", "else", "not", "dependentSchemas", "unevaluatedProperties", "$dynamicRef"]
)
ALTERNATIVES = ("anyOf", "oneOf", "$ref")
ONE = ("items", "additionalProperties", "contains", "propertyNames", "additionalItems")
LISTS = ("anyOf", "oneOf", "prefixItems", "items")
MAPS = ("properties", "patternProperties", "$defs", "definitions")


def closed(schema: dict[str, Any]) -> dict[str, Any]:
    """A new schema; the given one where it may not be closed. Nesting is the caller's to bound."""
    return schema if any(_combines(each) for each in _all(schema)) else _closed(schema)


def _all(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield schema
    for name, value in schema.items():
        for part in _parts(name, value):
            yield from _all(part)


def _parts(name: str, value: Any) -> Iterator[dict[str, Any]]:
    """The schemas that a keyword holds."""
    if name in MAPS and isinstance(value, dict):
        candidates = list(value.values())
    elif name in LISTS and isinstance(value, list):
        candidates = value
    else:
        candidates = [value] if name in ONE else []
    yield from (each for each in candidates if isinstance(each, dict))


def _combines(schema: dict[str, Any]) -> bool:
    return not COMBINING.isdisjoint(schema) or (
        "properties" in schema and any(name in schema for name in ALTERNATIVES)
    )


def _closed(schema: dict[str, Any]) -> dict[str, Any]:
    made = {name: _closed_part(name, value) for name, value in schema.items()}
    members = schema.get("properties")
    if isinstance(members, dict) and members and "additionalProperties" not in schema:
        required, least = schema.get("required", []), schema.get("minProperties", 0)
        if (
            isinstance(required, list)
            and set(map(str, required)) <= set(members)
            and least in range(len(members) + 1)
        ):
            made["additionalProperties"] = False
    return made


def _closed_part(name: str, value: Any) -> Any:
    if name in MAPS and isinstance(value, dict):
        return {key: _closed(each) if isinstance(each, dict) else each for key, each in value.items()}
    if name in LISTS and isinstance(value, list):
        return [_closed(each) if isinstance(each, dict) else each for each in value]
    return _closed(value) if name in ONE and isinstance(value, dict) else value
