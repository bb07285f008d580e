"""Whatever a client sends is a request or a typed refusal; nothing else ever leaves the validation."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.api.body import MAX_CONTAINERS, decode_json
from appliance.api.inputs import inputs
from appliance.api.parameters import check_chat, check_completion
from appliance.api.schemas import ChatRequest, CompletionRequest, EmbeddingRequest, RerankRequest
from appliance.api.validate import convert
from appliance.errors import InvalidJSON, InvalidRequest, InvalidValue

Result = TypeVar("Result")
MAX_DEPTH = 8

leaves = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
anything = st.recursive(leaves, lambda each: st.lists(each) | st.dictionaries(st.text(), each), max_leaves=8)


def bodies(kind: type[msgspec.Struct]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects with some of the kind's own names, so that values and not only names are looked at."""
    names = st.sampled_from([field.encode_name for field in msgspec.structs.fields(kind)])
    return st.dictionaries(names | st.text(max_size=4), anything, max_size=6)


def depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


def outcome(work: Callable[[], Result]) -> Result | InvalidRequest:
    """What `work` gives, or how it refuses; every other exception fails the test."""
    try:
        return work()
    except InvalidRequest as error:
        return error


def is_told_well(error: InvalidRequest) -> bool:
    return error.param is not None and 0 < len(error.message) < 500


@pytest.mark.parametrize("kind", [ChatRequest, CompletionRequest, EmbeddingRequest, RerankRequest])
def test_any_object_is_a_request_or_an_invalid_request(kind: type[msgspec.Struct]) -> None:
    @given(bodies(kind))
    def holds(body: dict[str, Any]) -> None:
        request = outcome(lambda: convert(body, kind))
        assert isinstance(request, kind) or is_told_well(request)

    holds()


@given(bodies(ChatRequest))
def test_any_chat_is_served_warned_of_or_refused_by_name(extra: dict[str, Any]) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]} | extra
    warnings = outcome(lambda: check_chat(convert(body, ChatRequest)))
    assert all(warnings) if isinstance(warnings, list) else is_told_well(warnings)


@given(bodies(CompletionRequest))
def test_any_completion_is_served_or_refused_by_name(extra: dict[str, Any]) -> None:
    def work() -> tuple[str, ...] | tuple[tuple[int, ...], ...]:
        request = convert({"model": "m", "prompt": "x"} | extra, CompletionRequest)
        check_completion(request)
        return inputs(request.prompt, "prompt", at_most=4)

    found = outcome(work)
    if isinstance(found, tuple):
        assert 1 <= len(found) <= 4
        assert len({type(each) for each in found}) == 1
    else:
        assert is_told_well(found)


@given(st.binary(max_size=64))
def test_any_bytes_are_json_or_invalid_json(body: bytes) -> None:
    try:
        value = decode_json(body, MAX_DEPTH)
    except InvalidJSON:
        return
    assert value == json.loads(body)


@given(anything)
def test_any_json_is_read_as_it_is_unless_it_is_too_deep(value: Any) -> None:
    body = json.dumps(value).encode()
    if depth(value) > MAX_DEPTH:
        with pytest.raises(InvalidJSON, match="deeper"):
            decode_json(body, MAX_DEPTH)
    elif all(abs(number) < 2**63 for number in numbers(value)):
        assert decode_json(body, MAX_DEPTH) == value


def numbers(value: Any) -> list[float]:
    if isinstance(value, (dict, list)):
        inner = value.values() if isinstance(value, dict) else value
        return [number for each in inner for number in numbers(each)]
    return [value] if isinstance(value, (int, float)) else []


@given(st.lists(st.text(alphabet='[]{}"\\a ', max_size=12), min_size=1), st.integers(1, 12))
def test_brackets_count_as_depth_only_outside_texts(texts: list[str], levels: int) -> None:
    body = json.dumps(texts).encode()
    for _ in range(levels - 1):
        body = b'{"a":' + body + b"}"
    if levels > MAX_DEPTH:
        with pytest.raises(InvalidJSON, match="deeper"):
            decode_json(body, MAX_DEPTH)
    else:
        value = decode_json(body, MAX_DEPTH)
        for _ in range(levels - 1):
            value = value["a"]
        assert value == texts


def test_as_many_lists_as_allowed_are_read_and_no_more() -> None:
    most = b"[" + b",".join([b"[]"] * (MAX_CONTAINERS - 1)) + b"]"
    assert len(decode_json(most, MAX_DEPTH)) == MAX_CONTAINERS - 1
    with pytest.raises(InvalidJSON, match="more than"):
        decode_json(most[:-1] + b",[]]", MAX_DEPTH)


@given(st.integers(0, 3000), st.sampled_from([None, "x", 1.5, {}, True]))
def test_the_wrong_entry_of_a_long_list_is_named(place: int, wrong: Any) -> None:
    prompt: list[Any] = [1] * 3001
    prompt[place] = wrong
    with pytest.raises(InvalidValue) as caught:
        inputs(convert({"model": "m", "prompt": prompt}, CompletionRequest).prompt, "prompt", at_most=4)
    assert caught.value.param in (f"prompt[{place}]", "prompt" if wrong == "x" else None)
