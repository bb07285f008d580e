"""JSON read in pieces: valid JSON means what it meant, and what comes out is always JSON so far."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.llm.dialects.json_reader import MAX_DEPTH, Malformed, read_value
from appliance.llm.dialects.tape import Tape

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def read(text: str, size: int = 1, *, whole: bool = True) -> str:
    tape = Tape()
    out: list[str] = []
    reading = read_value(tape, out.append)
    next(reading, None)
    for at in range(0, len(text), size):
        tape.feed(text[at : at + size])
        next(reading, None)
    tape.end(whole=whole)
    next(reading, None)
    assert not tape.held.strip(), f"not read: {tape.held!r}"
    return "".join(out)


@given(value=JSON, indent=st.sampled_from([None, 0, 2]), ascii=st.booleans(), size=st.integers(1, 9))
def test_any_value_is_read_as_it_was(value: Any, indent: int | None, ascii: bool, size: int) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii)
    assert json.loads(read(text, size)) == value


@given(value=JSON)
def test_the_spacing_is_pythons(value: Any) -> None:
    text = json.dumps(value, ensure_ascii=False)
    assert read(json.dumps(value, ensure_ascii=False, indent=3), 5) == text


@pytest.mark.parametrize(
    ("written", "read_as"),
    [
        ('{"a": [1, {"b": 2', '{"a": [1, {"b": 2}]}'),
        ('{"a": 1,}', '{"a": 1}'),
        ('{"a": 1,', '{"a": 1}'),
        ("[1, 2, ]", "[1, 2]"),
        ("[True, False, None]", "[true, false, null]"),
        ('"it\\\'s"', '"it\'s"'),
        ('"a\nb\tc"', '"a\\nb\\tc"'),
        ('"\\d+"', '"\\\\d+"'),
        ("{", "{}"),
    ],
)
def test_what_leaves_no_doubt_is_repaired(written: str, read_as: str) -> None:
    assert read(written) == read_as
    json.loads(read_as)


@pytest.mark.parametrize(
    "written",
    [
        *["", "{a: 1}", "{'a': 1}", '{"a" 1}', '{"a": }', "[1 2]", "[,1]", "[1,,2]", "01", "+1", "1.", ".5"],
        *["NaN", "tru", "undefined", '"ab', '"ab\\', '"\\u12x4"', '{"a": "b', "- 1", "1e", "}", "]", ","],
        "[" * (MAX_DEPTH + 2),
    ],
)
def test_what_leaves_doubt_is_refused(written: str) -> None:
    with pytest.raises(Malformed):
        read(written)


@pytest.mark.parametrize("written", ['{"a": 1', "[1", "12", "tru", '{"a": "b"', "["])
def test_nothing_cut_off_is_repaired(written: str) -> None:
    with pytest.raises(Malformed):
        read(written, whole=False)


def test_the_deepest_value_is_read() -> None:
    depth = MAX_DEPTH
    assert read("[" * depth + "]" * depth) == "[" * depth + "]" * depth
