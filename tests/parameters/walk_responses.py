"""/v1/responses with what belongs to it: counting tokens, compaction, conversations."""

from __future__ import annotations

import json
from typing import Any

from tests.clients import test_openai_responses as seen
from tests.parameters.asking import FUNCTION, ITEM, MONTHS, SCHEMA
from tests.parameters.walk_sampling import RESPONSES
from tests.parameters.walker import Walker, elsewhere, walks
from tests.serving import CHAT

COUNT, COMPACT, CONVERSATIONS = "/v1/responses/input_tokens", "/v1/responses/compact", "/v1/conversations"
TOOL = {"type": "function", **FUNCTION}
CALL = {"type": "function_call", "call_id": "call_1", "name": "get_weather", "arguments": '{"city": "Rome"}'}
OUTPUT = {"type": "function_call_output", "call_id": "call_1", "output": "sunny"}


def size(w: Walker, **changes: Any) -> int:
    return int(w.ask(COUNT, **changes)["input_tokens"])


def said(role: str = "user", content: Any = "Yes.", **fields: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **fields}


def text(answer: Any) -> str:
    return str(answer["output"][-1]["content"][0]["text"])


def kinds(answer: Any) -> list[str]:
    return [item["type"] for item in answer["output"]]


@walks(RESPONSES, "model")
def model(w: Walker) -> None:
    assert w.ask(RESPONSES)["model"] == CHAT
    w.refused(RESPONSES, "there is no model 'nobody'", 404, model="nobody")


def _prompt(w: Walker, path: str) -> None:
    """What decides the prompt, whether it is answered or counted."""

    def size(**changes: Any) -> int:
        most = {"max_output_tokens": 1} if path == RESPONSES else {}
        answer = w.ask(path, **most, **changes)
        return int(answer["input_tokens"] if path == COUNT else answer["usage"]["input_tokens"])

    plain = size()
    assert size(input=MONTHS) == plain
    assert size(input=[ITEM, said("assistant"), ITEM]) > plain
    assert size(instructions="Be brief. " * 9) > plain
    assert size(tools=[TOOL]) > plain
    assert size(tools=[TOOL], tool_choice="none") < size(tools=[TOOL])
    first = w.ask(RESPONSES, store=True)["id"]
    assert size(previous_response_id=first) > 2 * plain - 20
    conversation = w.ask(CONVERSATIONS)["id"]
    assert size(conversation=conversation) > plain
    assert size(conversation={"id": conversation}) > plain
    w.refused(path, "'input' is required", input=None)
    w.refused(path, "previous_response_not_found", previous_response_id="resp_nobody")
    w.refused(path, "conv_nobody", 404, conversation="conv_nobody")
    w.refused(path, "give one of them", previous_response_id=first, conversation=conversation)


@walks(RESPONSES, "input", "instructions", "previous_response_id", "conversation")
def prompt(w: Walker) -> None:
    _prompt(w, RESPONSES)


@walks(
    COUNT, "model", "input", "instructions", "previous_response_id", "conversation", "tools", "tool_choice"
)
def counted(w: Walker) -> None:
    _prompt(w, COUNT)
    w.refused(COUNT, "nobody", 404, model="nobody")


@walks(COUNT, "parallel_tool_calls", "text", "reasoning", "truncation")
def counted_with_options(w: Walker) -> None:
    """Taken as an answer would take them; with this model they add nothing to the prompt."""
    form = {"format": {"type": "json_schema", "name": "place", "schema": SCHEMA}}
    told: dict[str, Any] = {"text": form, "truncation": "auto", "parallel_tool_calls": False}
    assert size(w, **told, reasoning={"effort": "none"}) == size(w)
    assert "reasoning.summary is ignored" in w.warned(COUNT, reasoning={"summary": "auto"})


@walks(RESPONSES, "tools", "tool_choice", *(f"tools[].{each}" for each in ("type", "name", "description")))
def tools(w: Walker) -> None:
    asked: dict[str, Any] = {"max_output_tokens": 60, "tools": [TOOL]}
    for choice in ("required", {"type": "function", "name": "get_weather"}):
        (call,) = w.ask(RESPONSES, tool_choice=choice, **asked)["output"]
        assert (call["type"], call["name"]) == ("function_call", "get_weather")
    assert kinds(w.ask(RESPONSES, tool_choice="none", **asked)) == ["message"]
    assert size(w, tools=[TOOL | {"description": "The weather " * 9}]) > size(w, tools=[TOOL])
    w.refused(RESPONSES, "tools[0].type", tools=[{"type": "web_search"}])
    w.refused(RESPONSES, "tools[0].name", tools=[{"type": "function"}])
    w.refused(RESPONSES, "no tools", tool_choice="required")
    w.refused(RESPONSES, "tools[0].server_label", tools=[TOOL | {"server_label": "x"}])


@walks(RESPONSES, "tools[].parameters", "tools[].strict")
def arguments(w: Walker) -> None:
    for tool in (TOOL, TOOL | {"strict": True}):
        made = w.ask(RESPONSES, max_output_tokens=60, tools=[tool], tool_choice="required")
        assert set(json.loads(made["output"][0]["arguments"])) == {"city"}
    w.refused(RESPONSES, "tools[0].parameters", tools=[TOOL | {"parameters": {"type": "array"}}])


@walks(RESPONSES, "parallel_tool_calls")
def parallel_tool_calls(w: Walker) -> None:
    asked: dict[str, Any] = {"max_output_tokens": 100, "tools": [TOOL], "tool_choice": "required"}
    assert len(w.ask(RESPONSES, parallel_tool_calls=True, **asked)["output"]) > 1
    assert len(w.ask(RESPONSES, parallel_tool_calls=False, **asked)["output"]) == 1


@walks(RESPONSES, "text", "text.format")
def form(w: Walker) -> None:
    place = {"type": "json_schema", "name": "place", "schema": SCHEMA}
    made = w.ask(RESPONSES, text={"format": place}, max_output_tokens=40)
    assert set(json.loads(text(made))) == {"city"}
    assert made["text"]["format"]["type"] == "json_schema"
    whole = w.ask(RESPONSES, text={"format": {"type": "json_object"}}, max_output_tokens=40)
    assert isinstance(json.loads(text(whole)), dict)
    w.refused(RESPONSES, "text.format.schema", text={"format": {"type": "json_schema", "name": "x"}})


@walks(RESPONSES, "reasoning", "reasoning.effort", "chat_template_kwargs")
def reasoning(w: Walker) -> None:
    assert "reasoning_effort is ignored" in w.warned(RESPONSES, reasoning={"effort": "high"})
    assert w.warned(RESPONSES, reasoning={"effort": "none"}) == ""
    w.refused(RESPONSES, "has no option", chat_template_kwargs={"enable_thinking": True})


@walks(RESPONSES, "truncation", "context_management")
def too_long(w: Walker) -> None:
    turns = [said(content="word " * 900), said("assistant")] * 10
    long: dict[str, Any] = {"input": [*turns, ITEM], "max_output_tokens": 1}
    w.refused(RESPONSES, "context_length_exceeded", **long)
    w.refused(RESPONSES, "context_length_exceeded", truncation="disabled", **long)
    elsewhere(seen.test_what_is_too_long_is_refused_shortened_or_compacted)  # on a server of small context
    short = [said(content="I live in Rome. " * 60), said("assistant"), ITEM]
    rule = [{"type": "compaction", "compact_threshold": 256}]
    assert kinds(w.ask(RESPONSES, input=short, context_management=rule)) == ["compaction", "message"]
    assert kinds(w.ask(RESPONSES, input=short)) == ["message"]


@walks(RESPONSES, "background")
def background(w: Walker) -> None:
    made = w.ask(RESPONSES, background=True)
    assert made["status"] in ("queued", "in_progress")
    with w.http.stream("GET", f"{RESPONSES}/{made['id']}", params={"stream": "true"}) as events:
        assert '"response.incomplete"' in events.read().decode()
    w.refused(RESPONSES, "a background response is kept", background=True, store=False)


@walks(RESPONSES, "include", "top_logprobs")
def include(w: Walker) -> None:
    told = w.ask(RESPONSES, include=["message.output_text.logprobs"], top_logprobs=2)
    assert [len(each["top_logprobs"]) for each in told["output"][0]["content"][0]["logprobs"]] == [2] * 6
    assert w.ask(RESPONSES)["output"][0]["content"][0]["logprobs"] == []
    w.refused(RESPONSES, "include[0]", include=["everything"])


@walks(RESPONSES, "metadata", "store")
def store(w: Walker) -> None:
    kept = w.ask(RESPONSES, metadata={"walk": "responses"})
    assert w.get(f"{RESPONSES}/{kept['id']}")["metadata"] == {"walk": "responses"}
    lost = w.ask(RESPONSES, store=False)
    assert w.http.get(f"{RESPONSES}/{lost['id']}").status_code == 404


@walks(RESPONSES, "stream_options")
def stream_options(w: Walker) -> None:
    w.refused(RESPONSES, "stream_options needs", stream_options={})
    padded = {"include_obfuscation": False}
    assert "response.completed" in w.send(RESPONSES, stream=True, stream_options=padded).text.replace(
        "incomplete", "completed"
    )


# Items


@walks(RESPONSES, *(f"input[].{each}" for each in ("type", "role", "content")))
def messages(w: Walker) -> None:
    assert size(w, input=[said("system", "Be brief. " * 9), ITEM]) > size(w)
    assert size(w, input=[said("developer", "Be brief."), ITEM]) == size(
        w, input=[said("system", "Be brief."), ITEM]
    )
    w.refused(RESPONSES, "input[0].type", input=[{"type": "computer_call"}])
    w.refused(RESPONSES, "input[0].role", input=[{"type": "message", "content": "x"}])
    w.refused(RESPONSES, "input[0].content", input=[{"role": "user"}])


@walks(RESPONSES, *(f"input[].content[].{each}" for each in ("type", "text", "refusal")))
def parts(w: Walker) -> None:
    pieces = [{"type": "input_text", "text": MONTHS[:8]}, {"type": "input_text", "text": MONTHS[8:]}]
    assert size(w, input=[said(content=pieces)]) == size(w)
    refused = [{"type": "refusal", "refusal": "I cannot say. " * 9}]
    assert size(w, input=[ITEM, said("assistant", refused), ITEM]) > size(
        w, input=[ITEM, said("assistant"), ITEM]
    )
    w.refused(RESPONSES, "input[0].content[0].type", input=[said(content=[{"type": "input_video"}])])
    w.refused(RESPONSES, "input[0].content[0].text", input=[said(content=[{"type": "input_text"}])])


@walks(RESPONSES, *(f"input[].{each}" for each in ("call_id", "name", "arguments", "output")))
def calls(w: Walker) -> None:
    assert size(w, input=[ITEM, CALL, OUTPUT]) > size(w, input=[ITEM, CALL]) > size(w)
    longer = CALL | {"arguments": '{"city": "Rome in Italy"}'}
    assert size(w, input=[ITEM, longer]) > size(w, input=[ITEM, CALL])
    w.refused(RESPONSES, "which is not there", input=[ITEM, OUTPUT])
    for name in ("call_id", "name"):
        w.refused(RESPONSES, f"input[1].{name}", input=[ITEM, CALL | {name: None}])
    w.refused(RESPONSES, "input[2].output", input=[ITEM, CALL, OUTPUT | {"output": None}])


@walks(RESPONSES, "input[].id")
def references(w: Walker) -> None:
    made = w.ask(RESPONSES)["output"][0]["id"]
    assert size(w, input=[ITEM, {"type": "item_reference", "id": made}, ITEM]) > size(w)
    w.refused(RESPONSES, "msg_nobody", 404, input=[{"type": "item_reference", "id": "msg_nobody"}])


@walks(RESPONSES, "input[].summary", "input[].encrypted_content")
def thoughts(w: Walker) -> None:
    thought = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]}
    assert "reasoning_content is ignored" in w.warned(RESPONSES, input=[ITEM, thought, ITEM])
    (item,) = w.ask(COMPACT)["output"]
    assert size(w, input=[item, ITEM]) > size(w)
    w.refused(RESPONSES, "was not written by this server", input=[item | {"encrypted_content": "gAAA"}])


@walks(COMPACT, "model", "input", "instructions", "previous_response_id")
def compact(w: Walker) -> None:
    made = w.ask(COMPACT)
    longer = w.ask(COMPACT, instructions="Be brief. " * 9)
    assert longer["usage"]["input_tokens"] > made["usage"]["input_tokens"]
    first = w.ask(RESPONSES)["id"]
    alone = w.ask(COMPACT, input=None, previous_response_id=first)
    assert alone["output"][0]["type"] == "compaction"
    w.refused(COMPACT, "nobody", 404, model="nobody")
    w.refused(COMPACT, "input", input=None)


# Conversations


@walks(CONVERSATIONS, "items", "metadata")
def conversations(w: Walker) -> None:
    made = w.ask(CONVERSATIONS, metadata={"walk": "on"})
    assert made["metadata"] == {"walk": "on"}
    items = w.get(f"{CONVERSATIONS}/{made['id']}/items")["data"]
    assert [item["content"][0]["text"] for item in items] == [MONTHS]
    w.refused(CONVERSATIONS, "items[0].type", items=[{"type": "computer_call"}])


@walks("/v1/conversations/{conversation_id}", "metadata")
@walks("/v1/conversations/{conversation_id}/items", "items")
def conversation(w: Walker) -> None:
    path = f"{CONVERSATIONS}/{w.ask(CONVERSATIONS, items=None)['id']}"
    assert w.ask(path, metadata={"walk": "new"})["metadata"] == {"walk": "new"}
    assert w.get(path)["metadata"] == {"walk": "new"}
    added = w.ask(f"{path}/items", items=[ITEM, said("assistant")])["data"]
    assert [item["role"] for item in added] == ["user", "assistant"]
    assert len(w.get(f"{path}/items")["data"]) == 2
    w.refused(f"{path}/items", "items", items=[])
