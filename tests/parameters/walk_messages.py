"""/v1/messages as Anthropic has it, /api/chat and /api/generate as Ollama has them."""

from __future__ import annotations

import json
from typing import Any

from tests.parameters.asking import FUNCTION, MONTHS, SAID, SCHEMA
from tests.parameters.walk_sampling import MESSAGES, OLLAMA_CHAT, OLLAMA_TEXT
from tests.parameters.walker import Walker, walks
from tests.serving import CHAT

COUNT = "/v1/messages/count_tokens"
TOOL = {"name": "get_weather", "description": "The weather of a city", "input_schema": SCHEMA}
FORCED = {"type": "tool", "name": "get_weather"}
USE = {"type": "tool_use", "id": "call_1", "name": "get_weather", "input": {"city": "Rome"}}
RESULT = {"type": "tool_result", "tool_use_id": "call_1", "content": "sunny"}
FORM = {"format": {"type": "json_schema", "schema": SCHEMA}}


def size(w: Walker, **changes: Any) -> int:
    return int(w.ask(COUNT, **changes)["input_tokens"])


def turn(*blocks: dict[str, Any], role: str = "user") -> dict[str, Any]:
    return {"role": role, "content": list(blocks)}


@walks(MESSAGES, "model")
def model(w: Walker) -> None:
    assert w.ask(MESSAGES)["model"] == CHAT
    w.refused(MESSAGES, "not_found_error", 404, model="nobody")


@walks(MESSAGES, "messages", "system", "messages[].content[].type", "messages[].content[].text")
def messages(w: Walker) -> None:
    usage = w.ask(MESSAGES, system="Be brief.")["usage"]
    assert usage["input_tokens"] + usage["cache_read_input_tokens"] == size(w, system="Be brief.")
    assert size(w, system=[{"type": "text", "text": "Be brief."}]) == size(w, system="Be brief.")
    pieces = turn({"type": "text", "text": MONTHS[:8]}, {"type": "text", "text": MONTHS[8:]})
    assert size(w, messages=[pieces]) == size(w)
    w.refused(MESSAGES, "'image'", messages=[turn({"type": "image"})])
    w.refused(MESSAGES, "messages[0].content[0].text", messages=[turn({"type": "text"})])


@walks(
    MESSAGES,
    "messages[].content[].id",
    "messages[].content[].name",
    "messages[].content[].input",
    "messages[].content[].tool_use_id",
    "messages[].content[].content",
    "messages[].content[].is_error",
    "messages[].content[].thinking",
)
def blocks(w: Walker) -> None:
    called = [*SAID, turn(USE, role="assistant")]
    answered = [*called, turn(RESULT)]
    assert size(w, messages=answered) > size(w, messages=called) > size(w)
    assert size(w, messages=[*called, turn(RESULT | {"is_error": True})]) > size(w, messages=answered)
    longer = USE | {"input": {"city": "Rome in Italy"}}
    assert size(w, messages=[*SAID, turn(longer, role="assistant")]) > size(w, messages=called)
    w.refused(MESSAGES, "which is not there", messages=[*SAID, turn(RESULT)])
    w.refused(MESSAGES, "content[0].name", messages=[*SAID, turn({**USE, "name": None}, role="assistant")])
    thought = turn({"type": "thinking", "thinking": "Hm.", "signature": ""}, role="assistant")
    assert "reasoning_content is ignored" in w.warned(MESSAGES, messages=[*SAID, thought, *SAID])
    w.refused(MESSAGES, "only the assistant thinks", messages=[thought | {"role": "user"}])


@walks(
    MESSAGES,
    "tools",
    "tool_choice",
    "tools[].name",
    "tools[].type",
    "tools[].description",
    "tools[].input_schema",
    "tools[].strict",
)
def tools(w: Walker) -> None:
    for tool in (TOOL, TOOL | {"strict": True, "type": "custom"}):
        made = w.ask(MESSAGES, tools=[tool], tool_choice=FORCED, max_tokens=60)
        (call,) = made["content"]
        assert (made["stop_reason"], call["name"], set(call["input"])) == (
            "tool_use",
            "get_weather",
            {"city"},
        )
    assert size(w, tools=[TOOL | {"description": "The weather " * 9}]) > size(w, tools=[TOOL]) > size(w)
    answered = w.ask(MESSAGES, tools=[TOOL], tool_choice={"type": "none"})
    assert answered["content"][0]["type"] == "text"
    w.refused(MESSAGES, "there is: custom", tools=[TOOL | {"type": "bash_20250124"}])
    w.refused(MESSAGES, "tools[0].input_schema", tools=[{"name": "get_weather"}])
    w.refused(MESSAGES, "none of the tools", tools=[TOOL], tool_choice=FORCED | {"name": "other"})


@walks(MESSAGES, "thinking", "thinking.type", "output_config")
def thinking(w: Walker) -> None:
    assert "reasoning_effort is ignored" in w.warned(MESSAGES, thinking={"type": "enabled"})
    assert w.warned(MESSAGES, thinking={"type": "disabled"}) == ""
    assert "reasoning_effort is ignored" in w.warned(MESSAGES, output_config={"effort": "high"})
    made = w.ask(MESSAGES, output_config=FORM, max_tokens=40)
    assert set(json.loads(made["content"][0]["text"])) == {"city"}


@walks(MESSAGES, "cache_control")
def cache_control(w: Walker) -> None:
    w.ask(MESSAGES)
    again = w.ask(MESSAGES, cache_control={"type": "ephemeral"})
    assert again["usage"]["cache_read_input_tokens"] > 20


@walks(MESSAGES, "service_tier")
def service_tier(w: Walker) -> None:
    for tier in ("auto", "standard_only"):
        assert w.warned(MESSAGES, service_tier=tier) == ""


@walks(COUNT, "model", "messages", "system", "tools", "tool_choice")
def count(w: Walker) -> None:
    plain = size(w)
    assert size(w, messages=[*SAID, turn({"type": "text", "text": "Yes."}, role="assistant"), *SAID]) > plain
    assert size(w, system="Be brief. " * 9) > plain
    with_tool = size(w, tools=[TOOL])
    assert with_tool > plain
    assert size(w, tools=[TOOL], tool_choice={"type": "none"}) != with_tool
    w.refused(COUNT, "not_found_error", 404, model="nobody")


@walks(COUNT, "thinking", "output_config", "cache_control")
def count_with_options(w: Walker) -> None:
    told = {"thinking": {"type": "disabled"}, "output_config": FORM, "cache_control": {"type": "ephemeral"}}
    assert size(w, **told) == size(w)
    assert "thinking.display is ignored" in w.warned(
        COUNT, thinking={"type": "enabled", "display": "omitted"}
    )


# Ollama


@walks(OLLAMA_CHAT, "model")
def ollama_model(w: Walker) -> None:
    assert w.ask(OLLAMA_CHAT, model=f"{CHAT}:latest")["model"] == f"{CHAT}:latest"
    w.refused(OLLAMA_CHAT, "there is no model", 404, model="nobody")


@walks(OLLAMA_TEXT, "model")
def ollama_text_model(w: Walker) -> None:
    assert w.ask(OLLAMA_TEXT)["model"] == CHAT
    w.refused(OLLAMA_TEXT, "there is no model", 404, model="nobody")


def _options(w: Walker, path: str) -> None:
    assert w.ask(path, options={"num_predict": 2})["eval_count"] == 2
    w.refused(path, "options.num_predict", options={"num_predict": "two"})
    w.refused(path, "temperature", options={"temprature": 0})


def _form(w: Walker, path: str, told: Any) -> None:
    options = {"num_predict": 40, "temperature": 0}
    assert set(json.loads(told(w.ask(path, format=SCHEMA, options=options)))) == {"city"}
    assert isinstance(json.loads(told(w.ask(path, format="json", options=options))), dict)
    w.refused(path, "format", format="xml")


def _thinks(w: Walker, path: str) -> None:
    assert "reasoning_effort is ignored" in w.warned(path, think=True)
    assert w.warned(path, think=False) == ""


def _logprobs(w: Walker, path: str) -> None:
    told = w.ask(path, logprobs=True, top_logprobs=2)["logprobs"]
    assert [len(each["top_logprobs"]) for each in told] == [2] * 6
    assert "logprobs" not in w.ask(path)
    w.refused(path, "logprobs: true", top_logprobs=2)


@walks(OLLAMA_CHAT, "options", "format", "think", "logprobs", "top_logprobs")
def ollama_chat(w: Walker) -> None:
    _options(w, OLLAMA_CHAT)
    _form(w, OLLAMA_CHAT, lambda answer: answer["message"]["content"])
    _thinks(w, OLLAMA_CHAT)
    _logprobs(w, OLLAMA_CHAT)


@walks(OLLAMA_TEXT, "options", "format", "think", "logprobs", "top_logprobs")
def ollama_text(w: Walker) -> None:
    _options(w, OLLAMA_TEXT)
    _form(w, OLLAMA_TEXT, lambda answer: answer["response"])
    _thinks(w, OLLAMA_TEXT)
    _logprobs(w, OLLAMA_TEXT)


@walks(
    OLLAMA_CHAT,
    "messages",
    "tools",
    "messages[].role",
    "messages[].content",
    "messages[].thinking",
    "messages[].tool_calls",
    "messages[].tool_name",
)
def ollama_messages(w: Walker) -> None:
    def size(*said: Any, **changes: Any) -> int:
        return int(w.ask(OLLAMA_CHAT, messages=list(said), **changes)["prompt_eval_count"])

    asked = {"role": "user", "content": MONTHS}
    call = {"function": {"name": "get_weather", "arguments": {"city": "Rome"}}}
    called = {"role": "assistant", "content": "", "tool_calls": [call]}
    result = {"role": "tool", "content": "sunny", "tool_name": "get_weather"}
    tool = {"type": "function", "function": FUNCTION}
    assert size({"role": "system", "content": "Be brief. " * 9}, asked) > size(asked)
    assert size(asked, called, result) > size(asked, called) > size(asked)
    assert size(asked, tools=[tool]) > size(asked)
    thought = [asked, {"role": "assistant", "content": "Yes.", "thinking": "Hm."}, asked]
    assert "reasoning_content is ignored" in w.warned(OLLAMA_CHAT, messages=thought)
    w.refused(OLLAMA_CHAT, "a call that is not there", messages=[asked, called, result | {"tool_name": "x"}])
    w.refused(OLLAMA_CHAT, "only the assistant calls", messages=[asked | {"tool_calls": [call]}])
    w.refused(OLLAMA_CHAT, "messages[0].role", messages=[{"role": "narrator", "content": ""}])


@walks(OLLAMA_TEXT, "prompt", "system", "raw")
def ollama_prompt(w: Walker) -> None:
    france = "The capital of France is"
    assert w.ask(OLLAMA_TEXT, prompt=france, raw=True)["response"].startswith(" Paris")
    assert w.ask(OLLAMA_TEXT, prompt=france)["response"] != w.ask(OLLAMA_TEXT)["response"]
    told = w.ask(OLLAMA_TEXT, system="Be brief. " * 9)["prompt_eval_count"]
    assert told > w.ask(OLLAMA_TEXT)["prompt_eval_count"]
