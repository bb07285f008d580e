"""Do arguments fit a tool's schema? What is wrong is said; what a schema gets wrong itself is let pass."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.llm.dialects.conform import complaint

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
LOOP = {"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}] * 4}}, "$ref": "#/$defs/a"}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)
KEYWORDS = st.sampled_from(
    "type enum const required properties additionalProperties items anyOf oneOf allOf $ref minimum".split()
)


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (CITY, {"city": "Oslo", "more": 1}),
        ({}, {"anything": [1]}),
        (True, 3),
        ({"type": ["string", "null"]}, None),
        ({"type": "integer"}, 3.0),
        ({"enum": [1, "a"]}, 1.0),
        ({"items": {"type": "integer"}}, [1, 2]),
        ({"minimum": 1, "exclusiveMaximum": 3}, 2.9),
        ({"oneOf": [CITY, {"type": "string"}]}, "Oslo"),
        ({"$defs": {"c": CITY}, "properties": {"at": {"$ref": "#/$defs/c"}}}, {"at": {"city": "Oslo"}}),
        ({"$ref": "https://example.com/schema"}, 5),
        ({"additionalProperties": False, "patternProperties": {"x": {}}}, {"x1": 1}),
    ],
)
def test_what_fits(schema: Any, value: Any) -> None:
    assert complaint(schema, value) is None


@pytest.mark.parametrize(
    ("schema", "value", "said"),
    [
        (CITY, {}, "'city' is missing from the arguments"),
        (CITY, {"city": 5}, "'city' should be of type string"),
        (CITY, [], "the arguments should be of type object"),
        ({"additionalProperties": False, **CITY}, {"city": "a", "b": 1}, "the arguments has no member 'b'"),
        ({"type": "integer"}, 2.5, "type integer"),
        ({"type": "integer"}, True, "type integer"),
        ({"enum": [1, 2]}, True, "none of the values allowed"),
        ({"const": "a"}, "b", "should be 'a'"),
        ({"items": CITY}, [{"city": "a"}, {}], "'city' is missing from the arguments[1]"),
        ({"maximum": 3}, 4, "outside its maximum of 3"),
        ({"anyOf": [CITY, {"type": "null"}]}, "x", "fits no alternative of anyOf"),
        ({"allOf": [CITY, {"required": ["zip"]}]}, {"city": "a"}, "'zip' is missing"),
        ({"properties": {"x": False}}, {"x": 1}, "'x' may not be given"),
        (
            {"$defs": {"c": CITY}, "properties": {"at": {"$ref": "#/$defs/c"}}},
            {"at": {}},
            "'city' is missing",
        ),
    ],
)
def test_what_does_not_fit(schema: Any, value: Any, said: str) -> None:
    assert said in (complaint(schema, value) or "")


def test_a_schema_that_refers_to_itself_ends() -> None:
    begun = time.process_time()
    complaint(LOOP, {"a": 1})
    assert time.process_time() - begun < 5


@given(schema=st.dictionaries(KEYWORDS, JSON, max_size=5), value=JSON)
def test_no_schema_can_break_the_check(schema: Any, value: Any) -> None:
    assert complaint(schema, value) is None or complaint(schema, value)
