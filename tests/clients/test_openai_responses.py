"""/v1/responses and /v1/conversations through the real openai SDK: what its users' programs do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import openai
import pydantic
import pytest
from openai.types.responses import Response, ResponseStreamEvent

from tests.conftest import StartServer
from tests.serving import CHAT, EMBED, Served

QUESTION = "List the months of the year."
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather of a city",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 12}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}
FEW = {"temperature": 0.0, "max_output_tokens": 12}


@pytest.fixture(scope="module")
def sdk(server: Served) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", timeout=60, max_retries=0) as client:
        yield client


def check_sequence(events: list[ResponseStreamEvent]) -> Response:
    """The order that OpenAI's reference describes; returns the last event's response."""
    assert [event.sequence_number for event in events] == list(
        range(events[0].sequence_number, events[0].sequence_number + len(events))
    )
    kinds = [event.type for event in events]
    assert kinds[0] == "response.created"
    last = events[-1]
    assert last.type in ("response.completed", "response.incomplete")
    open_items: set[int] = set()
    for event in events:
        if event.type == "response.output_item.added":
            assert not open_items, "an item is added while another grows"
            open_items.add(event.output_index)
        elif event.type == "response.output_item.done":
            open_items.remove(event.output_index)
        elif hasattr(event, "output_index"):
            assert event.output_index in open_items
    assert not open_items
    return last.response


def test_a_response_is_answered_kept_and_deleted(sdk: openai.OpenAI) -> None:
    made = sdk.responses.create(model=CHAT, input=QUESTION, metadata={"k": "v"}, **FEW)
    assert "January" in made.output_text
    assert (made.status, made.object) == ("incomplete", "response")
    assert made.incomplete_details is not None
    assert made.incomplete_details.reason == "max_output_tokens"
    assert made.usage is not None
    assert made.usage.output_tokens == 12
    assert made.usage.total_tokens == made.usage.input_tokens + 12
    assert isinstance(made.usage.input_tokens_details.cached_tokens, int)
    assert isinstance(made.usage.input_tokens_details.cache_write_tokens, int)
    assert isinstance(made.usage.output_tokens_details.reasoning_tokens, int)
    assert sdk.responses.retrieve(made.id) == made
    (item,) = list(sdk.responses.input_items.list(made.id))
    assert item.type == "message"
    assert item.content[0].text == QUESTION  # type: ignore[union-attr]
    sdk.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        sdk.responses.retrieve(made.id)


def test_what_is_not_to_be_kept_is_not(sdk: openai.OpenAI) -> None:
    made = sdk.responses.create(model=CHAT, input=QUESTION, store=False, **FEW)
    assert made.output_text
    with pytest.raises(openai.NotFoundError):
        sdk.responses.retrieve(made.id)


def test_a_stream_says_the_same_in_the_right_order(sdk: openai.OpenAI) -> None:
    whole = sdk.responses.create(model=CHAT, input=QUESTION, **FEW)
    events = list(sdk.responses.create(model=CHAT, input=QUESTION, stream=True, **FEW))
    last = check_sequence(events)
    said = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert said == last.output_text == whole.output_text
    assert sdk.responses.retrieve(last.id) == last
    kinds = [event.type for event in events if event.type != "response.output_text.delta"]
    assert kinds == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.incomplete",
    ]


def test_the_stream_helper_and_parse(sdk: openai.OpenAI) -> None:
    class Person(pydantic.BaseModel):
        name: str = pydantic.Field(max_length=8)
        age: int = pydantic.Field(ge=0, le=99)

    asked = {"model": CHAT, "input": "Ada is 36 years old.", "temperature": 0.0, "max_output_tokens": 60}
    parsed = sdk.responses.parse(text_format=Person, **asked).output_parsed
    assert isinstance(parsed, Person)
    with sdk.responses.stream(text_format=Person, **asked) as stream:
        events = list(stream)
        assert stream.get_final_response().output_parsed == parsed
    assert events[0].type == "response.created"


def test_logprobs_are_given_where_they_are_asked_for(sdk: openai.OpenAI) -> None:
    made = sdk.responses.create(
        model=CHAT, input=QUESTION, include=["message.output_text.logprobs"], top_logprobs=2, **FEW
    )
    content = made.output[0].content[0]  # type: ignore[union-attr]
    assert len(content.logprobs) == 12  # type: ignore[union-attr,arg-type]
    assert len(content.logprobs[0].top_logprobs) == 2  # type: ignore[union-attr,index]


def test_a_response_goes_on_from_another(sdk: openai.OpenAI) -> None:
    first = sdk.responses.create(model=CHAT, input="My name is Ada.", instructions="Be brief.", **FEW)
    second = sdk.responses.create(model=CHAT, input="And so?", previous_response_id=first.id, **FEW)
    items = [
        {"role": "user", "content": "My name is Ada."},
        {"role": "assistant", "content": first.output_text},
        {"role": "user", "content": "And so?"},
    ]
    same = sdk.responses.create(model=CHAT, input=items, store=False, **FEW)  # type: ignore[arg-type]
    assert second.output_text == same.output_text
    assert second.usage is not None
    assert same.usage is not None
    assert second.usage.input_tokens == same.usage.input_tokens, "instructions are not carried over"
    sdk.responses.delete(first.id)
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.responses.create(model=CHAT, input="On?", previous_response_id=second.id)
    assert caught.value.code == "previous_response_not_found"


def test_functions_are_called_and_answered(sdk: openai.OpenAI) -> None:
    asked = sdk.responses.create(
        model=CHAT,
        input="What is the weather in Paris?",
        tools=[WEATHER],  # type: ignore[list-item]
        tool_choice={"type": "function", "name": "get_weather"},
        temperature=0,
        max_output_tokens=60,
    )
    (call,) = asked.output
    assert call.type == "function_call"
    assert call.name == "get_weather"
    assert set(pydantic.TypeAdapter(dict[str, str]).validate_json(call.arguments)) == {"city"}
    answered = sdk.responses.create(
        model=CHAT,
        previous_response_id=asked.id,
        input=[{"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}],
        tools=[WEATHER],  # type: ignore[list-item]
        tool_choice="none",
        **FEW,
    )
    assert answered.output[0].type == "message"
    with pytest.raises(openai.BadRequestError, match="which is not there"):
        sdk.responses.create(
            model=CHAT, input=[{"type": "function_call_output", "call_id": "call_x", "output": "sunny"}]
        )


def test_a_streamed_call_grows(sdk: openai.OpenAI) -> None:
    events = list(
        sdk.responses.create(
            model=CHAT,
            input="What is the weather in Paris?",
            tools=[WEATHER],  # type: ignore[list-item]
            tool_choice="required",
            temperature=0,
            max_output_tokens=60,
            stream=True,
        )
    )
    last = check_sequence(events)
    call = last.output[0]
    assert call.type == "function_call"
    pieces = [event.delta for event in events if event.type == "response.function_call_arguments.delta"]
    assert "".join(pieces) == call.arguments


def test_a_conversation_grows_by_its_responses(sdk: openai.OpenAI) -> None:
    conversation = sdk.conversations.create(
        items=[{"role": "user", "content": "The word is plum."}, {"role": "assistant", "content": "Yes."}],
        metadata={"a": "b"},
    )
    assert conversation.metadata == {"a": "b"}
    made = sdk.responses.create(model=CHAT, conversation=conversation.id, input="The word?", **FEW)
    assert made.conversation is not None
    assert made.conversation.id == conversation.id
    items = list(sdk.conversations.items.list(conversation.id, order="asc", limit=2))
    texts = [item.content[0].text for item in items]  # type: ignore[union-attr]
    assert texts == ["The word is plum.", "Yes.", "The word?", made.output_text]
    assert len({item.id for item in items}) == 4
    (added,) = sdk.conversations.items.create(
        conversation.id, items=[{"role": "user", "content": "New."}]
    ).data
    found = sdk.conversations.items.retrieve(added.id or "", conversation_id=conversation.id)
    assert found.content[0].text == "New."  # type: ignore[union-attr]
    sdk.conversations.items.delete(added.id or "", conversation_id=conversation.id)
    with pytest.raises(openai.NotFoundError):
        sdk.conversations.items.retrieve(added.id or "", conversation_id=conversation.id)
    assert sdk.conversations.update(conversation.id, metadata={"c": "d"}).metadata == {"c": "d"}
    assert sdk.conversations.delete(conversation.id).deleted
    with pytest.raises(openai.NotFoundError):
        sdk.conversations.retrieve(conversation.id)


def test_background_work_is_followed_and_cancelled(sdk: openai.OpenAI) -> None:
    queued = sdk.responses.create(
        model=CHAT, input=QUESTION, background=True, extra_body={"seed": 1}, max_output_tokens=2000
    )
    assert queued.status == "queued"
    cancelled = sdk.responses.cancel(queued.id)
    assert cancelled.status == "cancelled"
    assert sdk.responses.retrieve(queued.id).status == "cancelled"
    done = sdk.responses.create(model=CHAT, input=QUESTION, background=True, **FEW)
    ends_at = time.monotonic() + 60
    while (found := sdk.responses.retrieve(done.id)).status in ("queued", "in_progress"):
        assert time.monotonic() < ends_at
        time.sleep(0.02)
    assert "January" in found.output_text
    foreground = sdk.responses.create(model=CHAT, input=QUESTION, **FEW)
    with pytest.raises(openai.BadRequestError, match="background"):
        sdk.responses.cancel(foreground.id)


def test_a_background_stream_can_be_taken_up_again(sdk: openai.OpenAI) -> None:
    events = list(sdk.responses.create(model=CHAT, input=QUESTION, background=True, stream=True, **FEW))
    last = check_sequence(events)
    assert events[1].type == "response.queued"
    again = list(sdk.responses.retrieve(last.id, stream=True, starting_after=3))
    assert [event.to_json() for event in again] == [event.to_json() for event in events[4:]]


def test_tokens_are_counted_as_they_are_used(sdk: openai.OpenAI) -> None:
    counted = sdk.responses.input_tokens.count(model=CHAT, input=QUESTION, instructions="Be brief.")
    made = sdk.responses.create(model=CHAT, input=QUESTION, instructions="Be brief.", store=False, **FEW)
    assert made.usage is not None
    assert counted.input_tokens == made.usage.input_tokens


def test_a_compacted_conversation_is_gone_on_from(sdk: openai.OpenAI) -> None:
    said = [{"role": "user", "content": "I live in Rome. " * 40}, {"role": "assistant", "content": "Fine."}]
    compacted = sdk.responses.compact(model=CHAT, input=said)  # type: ignore[arg-type]
    (item,) = compacted.output
    assert item.type == "compaction"
    made = sdk.responses.create(
        model=CHAT,
        input=[
            {"type": "compaction", "encrypted_content": item.encrypted_content},
            {"role": "user", "content": "Where do I live?"},
        ],
        **FEW,
    )
    assert made.output_text
    with pytest.raises(openai.BadRequestError, match="was not written by this server"):
        sdk.responses.create(model=CHAT, input=[{"type": "compaction", "encrypted_content": "gAAA"}])


def test_what_is_too_long_is_refused_shortened_or_compacted(start_server: StartServer) -> None:
    served = start_server("generator.context_length=512")
    turn = [{"role": "user", "content": "word " * 70}, {"role": "assistant", "content": "Yes."}]
    long = [*turn * 8, {"role": "user", "content": QUESTION}]
    asked = {"model": CHAT, "input": long, **FEW}
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="any", max_retries=0, timeout=60) as sdk:
        with pytest.raises(openai.BadRequestError) as caught:
            sdk.responses.create(**asked)  # type: ignore[call-overload]
        assert caught.value.code == "context_length_exceeded"
        made = sdk.responses.create(truncation="auto", **asked)  # type: ignore[call-overload]
        assert 300 < made.usage.input_tokens <= 500
        assert "were left out" in made.to_dict()["warnings"][0]
        compacted = sdk.responses.create(  # type: ignore[call-overload]
            context_management=[{"type": "compaction", "compact_threshold": 300}], **asked
        )
        assert [item.type for item in compacted.output] == ["compaction", "message"]
        again = sdk.responses.create(model=CHAT, input="So?", previous_response_id=compacted.id, **FEW)
        assert again.usage is not None
        assert again.output_text


def test_files_are_searched_and_cited(sdk: openai.OpenAI) -> None:
    moon = b"# The Moon\n\nNeil Armstrong was the first person who walked on the Moon, in July 1969.\n"
    base = sdk.vector_stores.create(name="moon facts", extra_body={"embedder": EMBED})
    sdk.vector_stores.files.upload_and_poll(
        vector_store_id=base.id, file=("moon.md", moon), poll_interval_ms=50
    )
    events = list(
        sdk.responses.create(
            model=CHAT,
            input="Who was the first person who walked on the Moon?",
            tools=[{"type": "file_search", "vector_store_ids": [base.id], "max_num_results": 3}],
            include=["file_search_call.results"],
            temperature=0,
            max_output_tokens=40,
            stream=True,
        )
    )
    last = check_sequence(events)
    search, answer = last.output
    assert search.type == "file_search_call"
    assert search.status == "completed"
    assert search.results is not None
    assert search.results[0].filename == "moon.md"
    assert answer.type == "message"
    content = answer.content[0]
    assert content.type == "output_text"
    assert "Armstrong" in content.text
    (citation, *_) = content.annotations
    assert citation.type == "file_citation"
    assert citation.filename == "moon.md"
    assert content.text[citation.index] == "["
    assert "response.output_text.annotation.added" in [event.type for event in events]
    again = sdk.responses.create(
        model=CHAT, input="And then?", previous_response_id=last.id, tool_choice="none", **FEW
    )
    assert again.output_text
    sdk.vector_stores.delete(base.id)


def test_many_at_once(server: Served) -> None:
    async def ask() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0) as client:
            made = await asyncio.gather(
                *(client.responses.create(model=CHAT, input=QUESTION, **FEW) for _ in range(8))
            )
            return [each.output_text for each in made]

    texts = asyncio.run(ask())
    assert len(texts) == 8
    assert all("January" in text for text in texts)


def test_responses_outlive_the_server_and_interrupted_ones_have_failed(start_server: StartServer) -> None:
    served = start_server()
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="any", max_retries=0) as sdk:
        made = sdk.responses.create(model=CHAT, input=QUESTION, **FEW)
        queued = sdk.responses.create(model=CHAT, input=QUESTION, background=True, max_output_tokens=4000)
    served.process.kill()
    served.process.wait()
    again = start_server(home=served.home)
    with openai.OpenAI(base_url=f"{again.url}/v1", api_key="any", max_retries=0) as sdk:
        assert sdk.responses.retrieve(made.id).output_text == made.output_text
        failed = sdk.responses.retrieve(queued.id)
        assert failed.status == "failed"
        assert failed.error is not None
        assert "was stopped" in failed.error.message
