"""/v1/messages through the real anthropic SDK: what its users' programs do, and what they catch."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

from tests.serving import CHAT, Served

QUESTION: list[Any] = [{"role": "user", "content": "List the months of the year."}]
COLD = {"temperature": 0}  # the SDK types it no more; its users still send it
WEATHER: Any = {
    "name": "get_weather",
    "description": "The weather of a city",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 12}},
        "required": ["city"],
        "additionalProperties": False,
    },
}


@pytest.fixture(scope="module")
def sdk(server: Served) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=server.url, api_key="any", timeout=60, max_retries=0) as client:
        yield client


def test_a_message_is_answered(sdk: anthropic.Anthropic) -> None:
    message = sdk.messages.create(
        model=CHAT, messages=QUESTION, max_tokens=12, extra_body=COLD, system="You are brief."
    )
    assert (message.type, message.role, message.stop_reason) == ("message", "assistant", "max_tokens")
    (block,) = message.content
    assert block.type == "text"
    assert "January" in block.text
    assert message.usage.output_tokens == 12
    counted = sdk.messages.count_tokens(model=CHAT, messages=QUESTION, system="You are brief.")
    read = message.usage.cache_read_input_tokens
    assert read is not None
    assert counted.input_tokens == message.usage.input_tokens + read


def test_a_stream_says_the_same(sdk: anthropic.Anthropic) -> None:
    asked: Any = {"model": CHAT, "messages": QUESTION, "max_tokens": 12, "extra_body": COLD}
    whole = sdk.messages.create(**asked)
    with sdk.messages.stream(**asked) as stream:
        events = [event.type for event in stream]
        assert stream.get_final_text() == whole.content[0].text  # type: ignore[union-attr]
        final = stream.get_final_message()
    assert final.stop_reason == "max_tokens"
    assert final.usage.output_tokens == 12
    raw = [event.type for event in sdk.messages.create(stream=True, **asked)]
    assert raw[:2] == ["message_start", "content_block_start"]
    assert raw[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert set(raw[2:-3]) == {"content_block_delta"}
    assert "text" in events


def test_a_stop_sequence_is_told(sdk: anthropic.Anthropic) -> None:
    asked: Any = {
        "model": CHAT,
        "messages": QUESTION,
        "max_tokens": 60,
        "extra_body": COLD,
        "stop_sequences": ["March", "Never"],
    }
    message = sdk.messages.create(**asked)
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "March")
    with sdk.messages.stream(**asked) as stream:
        final = stream.get_final_message()
    assert (final.stop_reason, final.stop_sequence) == ("stop_sequence", "March")
    assert final.content[0].text == message.content[0].text  # type: ignore[union-attr]


def test_tools_are_called_and_answered(sdk: anthropic.Anthropic) -> None:
    asked: list[Any] = [{"role": "user", "content": "What is the weather in Paris?"}]
    options: Any = {"model": CHAT, "max_tokens": 60, "extra_body": COLD, "tools": [WEATHER]}
    forced: Any = {"type": "tool", "name": "get_weather"}
    message = sdk.messages.create(messages=asked, tool_choice=forced, **options)
    assert message.stop_reason == "tool_use"
    (call,) = message.content
    assert call.type == "tool_use"
    assert set(call.input) == {"city"}
    with sdk.messages.stream(messages=asked, tool_choice=forced, **options) as stream:
        final = stream.get_final_message()
    assert final.content[0].input == call.input  # type: ignore[union-attr]
    asked += [
        {"role": "assistant", "content": message.content},
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": call.id,
                    "content": [{"type": "text", "text": "sunny"}],
                }
            ],
        },
    ]
    answered = sdk.messages.create(messages=asked, tool_choice={"type": "none"}, **options)
    assert answered.content[0].type == "text"


def test_an_answer_keeps_to_its_schema(sdk: anthropic.Anthropic) -> None:
    schema = {
        "type": "object",
        "properties": {"month": {"type": "string", "maxLength": 9}},
        "required": ["month"],
        "additionalProperties": False,
    }
    message = sdk.messages.create(
        model=CHAT,
        messages=QUESTION,
        max_tokens=40,
        output_config={"format": {"type": "json_schema", "schema": schema}},
    )
    assert set(json.loads(message.content[0].text)) == {"month"}  # type: ignore[union-attr]


def test_errors_are_anthropics(sdk: anthropic.Anthropic, server: Served) -> None:
    with pytest.raises(anthropic.NotFoundError) as missing:
        sdk.messages.create(model="claude-opus-4", messages=QUESTION, max_tokens=5)
    assert missing.value.type == "not_found_error"
    image: Any = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
    with pytest.raises(anthropic.BadRequestError, match="read text only") as refused:
        sdk.messages.create(model=CHAT, messages=[{"role": "user", "content": [image]}], max_tokens=5)
    assert refused.value.type == "invalid_request_error"
    tool: Any = {"type": "web_search_20250305", "name": "web_search"}
    with pytest.raises(anthropic.BadRequestError, match="there is: custom"):
        sdk.messages.create(model=CHAT, messages=QUESTION, max_tokens=5, tools=[tool])
    assert server.http.get("/v1/messages").json()["error"]["type"] == "invalid_request_error"
    unknown = server.http.post("/v1/messages", json={"model": CHAT, "messages": QUESTION, "max_tokns": 5})
    assert "max_tokens" in unknown.json()["error"]["message"]


def test_many_at_once(server: Served) -> None:
    async def ask() -> list[str]:
        async with anthropic.AsyncAnthropic(base_url=server.url, api_key="any", max_retries=0) as client:
            made = await asyncio.gather(
                *(
                    client.messages.create(model=CHAT, messages=QUESTION, max_tokens=12, extra_body=COLD)
                    for _ in range(6)
                )
            )
            return [each.content[0].text for each in made]  # type: ignore[union-attr]

    assert all("January" in text for text in asyncio.run(ask()))
