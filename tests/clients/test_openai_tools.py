"""Tools through the real openai SDK: its typed calls, its stream's own assembly, its strict parsing."""

from __future__ import annotations

import json
from collections.abc import Iterator

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam
from pydantic import BaseModel

from tests.serving import CHAT, Served

TOOL: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Add two numbers",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "number"}, "b": {"type": "number"}},
            "required": ["a", "b"],
            "additionalProperties": False,
        },
    },
}
MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "What is 17 plus 25?"}]


class Add(BaseModel):
    a: int
    b: int


@pytest.fixture(scope="module")
def sdk(server: Served) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", timeout=60, max_retries=0) as client:
        yield client


def test_a_call_its_result_and_the_answer(sdk: openai.OpenAI) -> None:
    first = sdk.chat.completions.create(
        model=CHAT, messages=MESSAGES, tools=[TOOL], tool_choice="required", temperature=0, max_tokens=100
    )
    message = first.choices[0].message
    assert message.tool_calls
    call = message.tool_calls[0]
    assert call.type == "function"
    assert set(json.loads(call.function.arguments)) == {"a", "b"}
    second = sdk.chat.completions.create(
        model=CHAT,
        messages=[
            *MESSAGES,
            message.to_dict(),  # type: ignore[list-item]
            {"role": "tool", "tool_call_id": call.id, "content": "42"},
        ],
        tools=[TOOL],
        tool_choice="none",
        temperature=0,
        max_tokens=16,
    )
    assert second.choices[0].message.content
    assert second.choices[0].message.tool_calls is None


def test_the_sdks_stream_assembles_the_same_call(sdk: openai.OpenAI) -> None:
    whole = sdk.chat.completions.create(
        model=CHAT, messages=MESSAGES, tools=[TOOL], tool_choice="required", temperature=0, max_tokens=100
    )
    assert whole.choices[0].message.tool_calls
    expected = whole.choices[0].message.tool_calls[0]
    assert expected.type == "function"
    with sdk.chat.completions.stream(
        model=CHAT, messages=MESSAGES, tools=[TOOL], tool_choice="required", temperature=0, max_tokens=100
    ) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert "tool_calls.function.arguments.delta" in kinds
    assert final.choices[0].message.tool_calls
    call = final.choices[0].message.tool_calls[0]
    assert (call.function.name, call.function.arguments) == ("add", expected.function.arguments)
    assert final.choices[0].finish_reason == whole.choices[0].finish_reason


def test_a_strict_pydantic_tool_is_parsed(sdk: openai.OpenAI) -> None:
    answer = sdk.chat.completions.parse(
        model=CHAT,
        messages=MESSAGES,
        tools=[openai.pydantic_function_tool(Add)],
        tool_choice={"type": "function", "function": {"name": "Add"}},
        temperature=0,
        max_tokens=100,
    )
    assert answer.choices[0].message.tool_calls
    assert isinstance(answer.choices[0].message.tool_calls[0].function.parsed_arguments, Add)


def test_a_choice_of_no_tool_at_all_is_an_error_of_the_sdk(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.chat.completions.create(model=CHAT, messages=MESSAGES, tool_choice="required")
    assert caught.value.param == "tool_choice"
