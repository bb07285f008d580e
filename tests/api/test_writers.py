"""What each surface writes of one answer that thinks, speaks and calls, as no small model does on demand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec

from appliance.api.anthropic.replies import Writer as MessageWriter
from appliance.api.generation import now
from appliance.api.ollama.replies import Shape
from appliance.api.ollama.replies import Writer as LineWriter
from appliance.api.responses.events import Event
from appliance.api.responses.replies import ResponseBody
from appliance.api.responses.schemas import Item
from appliance.api.responses.turns import turns_of
from appliance.api.responses.writer import Writer
from appliance.errors import Unavailable
from appliance.records import Delta, Ended, Started, Timings, ToolCallDelta, Usage
from tests.clients.test_wire_types import CASES
from tests.clients.wire_events import RESPONSE_EVENT

USAGE = Usage(prompt_tokens=7, completion_tokens=9, cached_tokens=2, reasoning_tokens=3)
ENDED = Ended(id=1, usage=USAGE, timings=Timings())
STARTED = Started(id=1, prompt_tokens=7, cached_tokens=2)


def delta(**fields: Any) -> Delta:
    return Delta(**{"id": 1, "choice": 0, "text": "", "tokens": 1, **fields})


ANSWER = (
    delta(reasoning="Let me "),
    delta(reasoning="think."),
    delta(text="I will "),
    delta(text="look."),
    delta(tool_calls=(ToolCallDelta(index=0, id="call_1", name="look", arguments='{"at"'),)),
    delta(tool_calls=(ToolCallDelta(index=0, arguments=': "it"}'),)),
    delta(tool_calls=(ToolCallDelta(index=1, id="call_2", name="wait", arguments="{}"),)),
    delta(finish_reason="tool_calls"),
)


def body() -> ResponseBody:
    return ResponseBody(
        id="resp_1",
        created_at=now(),
        status="queued",
        background=False,
        instructions=None,
        max_output_tokens=None,
        max_tool_calls=None,
        model="m",
        output=[],
        parallel_tool_calls=True,
        previous_response_id=None,
        conversation=None,
        prompt_cache_key=None,
        reasoning={},
        safety_identifier=None,
        service_tier="default",
        store=False,
        temperature=1.0,
        text={},
        tool_choice="auto",
        tools=[],
        top_logprobs=0,
        top_p=1.0,
        truncation="disabled",
        user=None,
        metadata={},
    )


def events(writer: Writer) -> Iterator[dict[str, Any]]:
    def written() -> Iterator[Event]:
        yield writer.lifecycle("created")
        for each in ANSWER:
            yield from writer.feed(each)
        yield from writer.end(USAGE)

    for event in written():
        yield msgspec.json.decode(msgspec.json.encode(event))


def test_a_response_has_an_item_for_each_thing_it_did() -> None:
    writer = Writer(body(), encrypts=True)
    found = list(events(writer))
    for event in found:
        RESPONSE_EVENT.validate_python(event, strict=True)
    assert CASES["reasoning"] <= {event["type"].removeprefix("response.") for event in found}
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    output = found[-1]["response"]["output"]
    assert [item["type"] for item in output] == ["reasoning", "message", "function_call", "function_call"]
    assert [item["status"] for item in output] == ["completed"] * 4
    assert output[0]["content"][0]["text"] == "Let me think."
    assert output[1]["content"][0]["text"] == "I will look."
    assert (output[2]["call_id"], output[2]["arguments"]) == ("call_1", '{"at": "it"}')
    usage = found[-1]["response"]["usage"]
    assert usage["output_tokens_details"]["reasoning_tokens"] == 3
    assert usage["input_tokens_details"]["cached_tokens"] == 2
    done = [event["item"] for event in found if event["type"] == "response.output_item.done"]
    assert done == output
    added = [event for event in found if event["type"] == "response.output_item.added"]
    assert [event["output_index"] for event in added] == [0, 1, 2, 3]
    assert {event["item"]["status"] for event in added} == {"in_progress"}


def test_a_response_can_be_sent_back_whole_or_encrypted() -> None:
    writer = Writer(body(), encrypts=True)
    output = list(events(writer))[-1]["response"]["output"]
    turns = turns_of(msgspec.convert(output, list[Item]))
    (turn,) = turns
    assert (turn.role, turn.reasoning, turn.content) == ("assistant", "Let me think.", "I will look.")
    assert [call.name for call in turn.tool_calls] == ["look", "wait"]
    hidden = {name: value for name, value in output[0].items() if name != "content"}
    assert turns_of(msgspec.convert([hidden, *output[1:]], list[Item])) == turns


def test_a_failed_response_says_so_last() -> None:
    writer = Writer(body())
    writer.lifecycle("created")
    failed = writer.fail(Unavailable("the worker is gone"))
    assert failed.type == "response.failed"
    assert failed.response.error is not None
    assert (failed.response.error.code, failed.response.error.message) == (
        "server_error",
        "the worker is gone",
    )


def test_a_message_has_a_block_for_each_thing_it_did() -> None:
    writer = MessageWriter("m")
    raw = b"".join([*writer.begin(STARTED), *(line for each in ANSWER for line in writer.feed(each))])
    raw += b"".join(writer.end(ENDED))
    found = [json.loads(part.split(b"data: ")[1]) for part in raw.split(b"\n\n") if part]
    blocks = [event["content_block"]["type"] for event in found if event["type"] == "content_block_start"]
    assert blocks == ["thinking", "text", "tool_use", "tool_use"]
    starts = [event["index"] for event in found if event["type"] == "content_block_start"]
    stops = [event["index"] for event in found if event["type"] == "content_block_stop"]
    assert starts == stops == [0, 1, 2, 3]
    pieces = [event["delta"] for event in found if event["type"] == "content_block_delta"]
    assert "".join(each.get("thinking", "") for each in pieces) == "Let me think."
    assert "".join(each.get("partial_json", "") for each in pieces) == '{"at": "it"}{}'
    assert found[0]["message"]["usage"]["input_tokens"] == 5
    assert found[-2]["delta"]["stop_reason"] == "tool_use"
    assert found[-1]["type"] == "message_stop"


def test_lines_tell_calls_when_they_are_whole() -> None:
    writer = LineWriter(Shape("m", is_chat=True))
    raw = b"".join([*(line for each in ANSWER for line in writer.feed(each)), *writer.end(ENDED)])
    found = [json.loads(line) for line in raw.splitlines()]
    assert "".join(line["message"].get("thinking") or "" for line in found) == "Let me think."
    assert "".join(line["message"]["content"] for line in found) == "I will look."
    calls = [call["function"] for line in found for call in line["message"].get("tool_calls") or ()]
    assert calls == [{"name": "look", "arguments": {"at": "it"}}, {"name": "wait", "arguments": {}}]
    assert found[-1]["done"]
    assert found[-1]["done_reason"] == "stop"
    assert found[-1]["prompt_eval_count"] == 7
