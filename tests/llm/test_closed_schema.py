"""Objects are closed where nothing is said about other members, and only there."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.llm.closed_schema import closed

TEXT = {"type": "string"}
OPEN = {"type": "object", "properties": {"a": TEXT}}
CLOSED = OPEN | {"additionalProperties": False}


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (OPEN, CLOSED),
        ({"type": "array", "items": OPEN}, {"type": "array", "items": CLOSED}),
        ({"anyOf": [OPEN, TEXT]}, {"anyOf": [CLOSED, TEXT]}),
        ({"$ref": "#/$defs/x", "$defs": {"x": OPEN}}, {"$ref": "#/$defs/x", "$defs": {"x": CLOSED}}),
        (
            {"properties": {"properties": OPEN, "enum": TEXT}},
            {"properties": {"properties": CLOSED, "enum": TEXT}, "additionalProperties": False},
        ),
    ],
)
def test_objects_are_closed(schema: dict[str, Any], expected: dict[str, Any]) -> None:
    assert closed(schema) == expected


@pytest.mark.parametrize(
    "schema",
    [
        TEXT,
        {"type": "object"},
        {"type": "object", "properties": {}},
        OPEN | {"additionalProperties": True},
        OPEN | {"additionalProperties": TEXT},
        OPEN | {"required": ["a", "b"]},
        OPEN | {"minProperties": 2},
        OPEN | {"minProperties": "two"},
        OPEN | {"anyOf": [{"properties": {"b": TEXT}}]},
        {"allOf": [OPEN, {"properties": {"b": TEXT}}]},
        {"$defs": {"x": OPEN}, "properties": {"y": {"allOf": [{"$ref": "#/$defs/x"}]}}},
        {"enum": [OPEN], "const": OPEN, "default": OPEN},
    ],
)
def test_what_says_more_stays_as_it_is(schema: dict[str, Any]) -> None:
    assert closed(schema) == schema
