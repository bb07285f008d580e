"""Every answer and event as the installed SDKs declare them, which their clients themselves do not check."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from anthropic.types import Message, RawMessageStreamEvent
from openai.types import Completion, CreateEmbeddingResponse, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.conversations import Conversation
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from tests.clients.wire_events import named_events, response_events
from tests.parameters.asking import BASES, FUNCTION, ITEM, SAID, SCHEMA
from tests.serving import CHAT, EMBED, events_of

PATH = "/v1/responses"
BASE = BASES[PATH]
MESSAGE_EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)

# Which events each kind of response has, beside those that every one has.
EVERY = {"created", "in_progress", "output_item.added", "output_item.done"}
TEXT = {"content_part.added", "output_text.delta", "output_text.done", "content_part.done"}
SEARCH = {f"file_search_call.{stage}" for stage in ("in_progress", "searching", "completed")}
CALL = {"function_call_arguments.delta", "function_call_arguments.done"}
CASES = {
    "text": EVERY | TEXT | {"incomplete"},
    "whole": EVERY | TEXT | {"completed"},
    "background": EVERY | TEXT | {"queued", "incomplete"},
    "call": EVERY | CALL | {"completed"},
    "search": EVERY | TEXT | SEARCH | {"output_text.annotation.added", "incomplete"},
    "compaction": EVERY | TEXT | {"compaction.compacting", "incomplete"},
    "failed": {"created", "in_progress", "failed"},
    # On a server with tools of its own, and by a model that thinks: test_server_tools, api/test_writers.
    "tools": {f"mcp_call.{stage}" for stage in ("in_progress", "completed", "failed")}
    | {f"mcp_list_tools.{stage}" for stage in ("in_progress", "completed", "failed")}
    | {"mcp_call_arguments.delta", "mcp_call_arguments.done"},
    "reasoning": {"reasoning_text.delta", "reasoning_text.done"},
}
# Events of what is not served: tools that OpenAI runs, sounds, pictures; summaries, as the reasoning is given
# whole; refusals, which local models write as text; `error`, for which there is response.failed.
NEVER = (
    "audio.",
    "code_interpreter_call",
    "custom_tool_call",
    "image_generation_call",
    "web_search_call",
    "shell_call",
    "reasoning_summary_",
    "refusal.",
    "error",
)


def test_every_event_that_the_sdk_knows_is_sent_or_of_what_is_not_served() -> None:
    (union, *_) = typing.get_args(ResponseStreamEvent)
    known = {
        typing.get_args(kind.model_fields["type"].annotation)[0].removeprefix("response.")
        for kind in typing.get_args(union)
    }
    sent: set[str] = set().union(*CASES.values())
    assert sent <= known
    assert {name for name in known - sent if not name.startswith(NEVER)} == set()


def types_of(events: list[dict[str, Any]]) -> set[str]:
    return {event["type"].removeprefix("response.") for event in events}


def streamed(http: httpx.Client, **changes: Any) -> list[dict[str, Any]]:
    answer = http.post(PATH, json=BASE | {"stream": True} | changes)
    assert answer.status_code == 200, answer.text
    return response_events(answer.text)


def test_text(http: httpx.Client) -> None:
    events = streamed(http)
    assert types_of(events) == CASES["text"]
    with_logprobs = streamed(http, include=["message.output_text.logprobs"], top_logprobs=2)
    assert types_of(with_logprobs) == CASES["text"]


def test_text_that_ends_by_itself_in_one_piece(http: httpx.Client) -> None:
    """A short answer's tokens may come together: the events must show it growing all the same."""
    bias = {"format": {"type": "json_schema", "name": "one", "schema": {"const": "a"}}}
    for _ in range(5):
        assert types_of(streamed(http, text=bias, max_output_tokens=20)) == CASES["whole"]


def test_in_the_background(http: httpx.Client) -> None:
    events = streamed(http, background=True)
    assert types_of(events) == CASES["background"]
    again = http.get(f"{PATH}/{events[0]['response']['id']}", params={"stream": "true", "starting_after": 2})
    assert response_events(again.text) == events[3:]


def test_a_call(http: httpx.Client) -> None:
    tool = {"type": "function", **FUNCTION}
    events = streamed(http, tools=[tool], tool_choice="required", max_output_tokens=60)
    assert types_of(events) == CASES["call"]


@contextmanager
def base(http: httpx.Client) -> Iterator[str]:
    moon = b"Neil Armstrong was the first person who walked on the Moon, in July 1969.\n"
    id = http.post("/v1/vector_stores", json={"embedder": EMBED}).json()["id"]
    file = http.post("/v1/files", files={"file": ("moon.md", moon)}, data={"purpose": "assistants"}).json()
    http.post(f"/v1/vector_stores/{id}/files", json={"file_id": file["id"]})
    while http.get(f"/v1/vector_stores/{id}").json()["status"] != "completed":
        pass
    yield id
    http.delete(f"/v1/vector_stores/{id}")


def test_a_search(http: httpx.Client) -> None:
    question = "Who was the first person who walked on the Moon?"
    with base(http) as id:
        tool = {"type": "file_search", "vector_store_ids": [id]}
        events = streamed(http, input=question, tools=[tool], max_output_tokens=40, temperature=0)
    assert types_of(events) | {"incomplete"} == CASES["search"] | (types_of(events) & {"completed"})
    added = next(event for event in events if event["type"] == "response.output_item.added")
    assert added["item"]["status"] == "in_progress"


def test_a_compaction(http: httpx.Client) -> None:
    long = [{"role": "user", "content": "I live in Rome. " * 60}, {"role": "assistant", "content": "Yes."}]
    rule = [{"type": "compaction", "compact_threshold": 256}]
    assert types_of(streamed(http, input=[*long, ITEM], context_management=rule)) == CASES["compaction"]


def test_a_failure(http: httpx.Client) -> None:
    """A first word may be out before the time is."""
    types = types_of(streamed(http, background=True, timeout=0.001, max_output_tokens=200))
    assert CASES["failed"] - {"in_progress"} <= types
    assert not types & {"completed", "incomplete"}


@pytest.mark.parametrize(
    ("path", "kind", "changes"),
    [
        ("/v1/chat/completions", ChatCompletion, {"logprobs": True, "top_logprobs": 2}),
        (
            "/v1/chat/completions",
            ChatCompletion,
            {
                "tools": [{"type": "function", "function": FUNCTION}],
                "tool_choice": "required",
                "max_tokens": 60,
            },
        ),
        ("/v1/completions", Completion, {"logprobs": 2}),
        ("/v1/embeddings", CreateEmbeddingResponse, {}),
        (PATH, Response, {"metadata": {"a": "b"}}),
        ("/v1/conversations", Conversation, {}),
        ("/v1/messages", Message, {}),
        (
            "/v1/messages",
            Message,
            {
                "tools": [{"name": "get_weather", "input_schema": SCHEMA}],
                "tool_choice": {"type": "any"},
                "max_tokens": 60,
            },
        ),
    ],
)
def test_answers(http: httpx.Client, path: str, kind: Any, changes: dict[str, Any]) -> None:
    answer = http.post(path, json=BASES[path] | changes)
    assert answer.status_code == 200, answer.text
    kind.model_validate_json(answer.content, strict=True)


def test_models(http: httpx.Client) -> None:
    for each in http.get("/v1/models").json()["data"]:
        Model.model_validate(each, strict=True)


@pytest.mark.parametrize(
    "changes",
    [
        {"logprobs": True},
        {
            "tools": [{"type": "function", "function": FUNCTION}],
            "tool_choice": "required",
            "max_tokens": 60,
        },
    ],
)
def test_chunks_of_a_chat(http: httpx.Client, changes: dict[str, Any]) -> None:
    asked = {"model": CHAT, "messages": SAID, "max_tokens": 6, "stream": True} | changes
    for event in events_of(http.post("/v1/chat/completions", json=asked)):
        ChatCompletionChunk.model_validate(event, strict=True)


@pytest.mark.parametrize(
    ("changes", "deltas"),
    [
        ({}, {"text_delta"}),
        (
            {
                "tools": [{"name": "get_weather", "input_schema": SCHEMA}],
                "tool_choice": {"type": "any"},
                "max_tokens": 60,
            },
            {"input_json_delta"},
        ),
    ],
)
def test_events_of_a_message(http: httpx.Client, changes: dict[str, Any], deltas: set[str]) -> None:
    asked = {"model": CHAT, "messages": SAID, "max_tokens": 6, "stream": True} | changes
    events = named_events(http.post("/v1/messages", json=asked).text)
    for event in events:
        MESSAGE_EVENT.validate_python(event, strict=True)
    kinds = [event["type"] for event in events]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert {event["delta"]["type"] for event in events if event["type"] == "content_block_delta"} == deltas
