"""Tools over HTTP: what may be asked, what comes back, and how it goes on; with real models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import require
from tests.serving import CHAT, Served, chat_body, events_of

PATH = "/v1/chat/completions"
QWEN = "qwen2.5-coder-0.5b-instruct"
WEATHER = {
    "name": "get_weather",
    "description": "Get the current weather for a city",
    "parameters": {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
        },
        "required": ["city"],
    },
}
ADD = {
    "name": "add",
    "description": "Add two numbers",
    "parameters": {
        "type": "object",
        "properties": {"a": {"type": "number"}, "b": {"type": "number"}},
        "required": ["a", "b"],
    },
}
TOOLS = [{"type": "function", "function": function} for function in (WEATHER, ADD)]
NAMED = {"type": "function", "function": {"name": "add"}}
ALLOWED = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [NAMED]}}
QUESTION = "What is the weather in Paris?"


def ask(http: httpx.Client, content: str = QUESTION, **parameters: Any) -> dict[str, Any]:
    settings = {"tools": TOOLS, "temperature": 0, "max_tokens": 120, **parameters}
    response = http.post(PATH, json=chat_body(content, **settings))
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


def calls_of(answer: dict[str, Any], choice: int = 0) -> list[tuple[str, dict[str, Any]]]:
    calls = answer["choices"][choice]["message"].get("tool_calls", [])
    assert all(call["type"] == "function" and call["id"] for call in calls)
    return [(call["function"]["name"], json.loads(call["function"]["arguments"])) for call in calls]


def fits(name: str, arguments: dict[str, Any]) -> bool:
    if name == "add":
        return set(arguments) == {"a", "b"} and all(isinstance(v, int | float) for v in arguments.values())
    unit = arguments.get("unit", "celsius")
    return isinstance(arguments["city"], str) and unit in ("celsius", "fahrenheit") and len(arguments) <= 2


def assembled(events: list[dict[str, Any]]) -> tuple[str, list[tuple[str, str]], str | None]:
    """A streamed answer's text, calls and end."""
    text, calls, reason = "", dict[int, list[str]](), None
    for choice in (choice for event in events for choice in event["choices"]):
        text += choice["delta"].get("content") or ""
        reason = choice["finish_reason"] or reason
        for piece in choice["delta"].get("tool_calls", []):
            if piece["index"] not in calls:
                assert piece["id"]
                assert piece["type"] == "function"
                calls[piece["index"]] = [piece["function"]["name"], ""]
            calls[piece["index"]][1] += piece["function"]["arguments"]
    return text, [(name, arguments) for name, arguments in calls.values()], reason


# With a model that has never heard of tools: the forms and the force


@pytest.mark.parametrize("temperature", [0, 1.5])
def test_required_gives_a_call_that_fits(http: httpx.Client, temperature: float) -> None:
    answer = ask(http, tool_choice="required", temperature=temperature, seed=3)
    ((name, arguments),) = calls_of(answer)
    assert fits(name, arguments)
    assert answer["choices"][0]["message"]["content"] is None
    assert answer["choices"][0]["finish_reason"] in ("tool_calls", "length")


@pytest.mark.parametrize("choice", [NAMED, ALLOWED], ids=["named", "allowed"])
def test_a_named_tool_is_called(http: httpx.Client, choice: dict[str, Any]) -> None:
    ((name, arguments),) = calls_of(ask(http, tool_choice=choice))
    assert name == "add"
    assert fits(name, arguments)


def test_every_choice_makes_its_own_call(http: httpx.Client) -> None:
    answer = ask(http, tool_choice=NAMED, n=3, temperature=1.2, seed=1)
    ids = {choice["message"]["tool_calls"][0]["id"] for choice in answer["choices"]}
    assert len(ids) == 3
    for index in range(3):
        ((name, arguments),) = calls_of(answer, index)
        assert fits(name, arguments)


def test_a_tight_budget_still_gives_a_whole_call(http: httpx.Client) -> None:
    answer = ask(
        http,
        tool_choice={"type": "function", "function": {"name": "get_weather"}},
        temperature=1.8,
        max_tokens=48,
        seed=2,
    )
    ((name, arguments),) = calls_of(answer)
    assert fits(name, arguments)
    assert answer["usage"]["completion_tokens"] <= 48


def test_streamed_pieces_make_the_same_call(http: httpx.Client) -> None:
    parameters = {"tools": TOOLS, "tool_choice": "required", "temperature": 0, "max_tokens": 120}
    whole = ask(http, **parameters)
    events = events_of(http.post(PATH, json=chat_body(QUESTION, stream=True, **parameters)))
    text, calls, reason = assembled(events)
    assert text == ""
    assert [(name, json.loads(arguments)) for name, arguments in calls] == calls_of(whole)
    assert reason == whole["choices"][0]["finish_reason"]
    pieces = [c for e in events for c in e["choices"] if c["delta"].get("tool_calls")]
    assert len(pieces) > 2, "arguments come as they are written"


def test_a_model_without_tools_in_its_template_is_told_of(http: httpx.Client) -> None:
    assert any("has no tools" in warning for warning in ask(http, max_tokens=1)["warnings"])
    with_none = ask(http, tool_choice="none", max_tokens=1)
    assert with_none["warnings"] == []
    without = http.post(PATH, json=chat_body(QUESTION, max_tokens=1, temperature=0)).json()
    assert with_none["usage"]["prompt_tokens"] == without["usage"]["prompt_tokens"], "it is told of none"


def test_results_and_calls_are_part_of_the_next_prompt(http: httpx.Client) -> None:
    first = ask(http, tool_choice="required")
    message = first["choices"][0]["message"]
    call = message["tool_calls"][0]
    messages = [
        {"role": "user", "content": QUESTION},
        message,
        {"role": "tool", "tool_call_id": call["id"], "content": "sunny"},
    ]
    body = {"model": CHAT, "messages": messages, "tools": TOOLS, "temperature": 0, "max_tokens": 16}
    response = http.post(PATH, json=body)
    assert response.status_code == 200, response.text
    assert response.json()["usage"]["prompt_tokens"] > first["usage"]["prompt_tokens"] + 15
    assert response.json()["usage"]["prompt_tokens_details"]["cached_tokens"] > 100


def test_the_deprecated_functions_are_tools(http: httpx.Client) -> None:
    body = chat_body(
        QUESTION, functions=[WEATHER, ADD], function_call={"name": "add"}, temperature=0, max_tokens=60
    )
    choice = http.post(PATH, json=body).json()["choices"][0]
    assert choice["finish_reason"] == "function_call"
    assert "tool_calls" not in choice["message"]
    called = choice["message"]["function_call"]
    assert called["name"] == "add"
    assert fits("add", json.loads(called["arguments"]))
    messages = [
        *body["messages"],
        choice["message"],
        {"role": "function", "name": "add", "content": "42"},
    ]
    response = http.post(PATH, json={**body, "messages": messages, "function_call": "none", "max_tokens": 8})
    assert response.status_code == 200, response.text
    streamed = events_of(http.post(PATH, json={**body, "stream": True}))
    deltas = [choice["delta"].get("function_call", {}) for e in streamed for choice in e["choices"]]
    assert "".join(delta.get("name", "") for delta in deltas) == "add"
    assert "".join(delta.get("arguments", "") for delta in deltas) == called["arguments"]


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return {"properties": {"x": schema}}


def function(**fields: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "f", **fields}}


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"tools": [function(), function()]}, "tools[1].function.name"),
        ({"tools": [function(name="x" * 65)]}, "tools[0].function.name"),
        ({"tools": [function(parameters={"type": "string"})]}, "tools[0].function.parameters"),
        ({"tools": [function(parameters=nested(40))]}, "tools[0].function.parameters"),
        (
            {"tools": [function(), function(name="g", parameters={"description": "x" * 70_000})]},
            "tools[1].function.parameters",
        ),
        ({"tools": [function(name=f"f{n}") for n in range(129)]}, "tools"),
        ({"tools": TOOLS, "functions": [WEATHER]}, "functions"),
        ({"functions": [WEATHER], "function_call": {"name": "add"}}, "function_call.name"),
        ({"tools": TOOLS, "tool_choice": "sometimes"}, "tool_choice"),
        (
            {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "x"}}},
            "tool_choice.function.name",
        ),
        ({"tools": TOOLS, "tool_choice": {"type": "function"}}, "tool_choice.function"),
        ({"tools": TOOLS, "tool_choice": {"type": "custom", "custom": {"name": "x"}}}, "tool_choice.type"),
        (
            {
                "tools": [function(parameters={"properties": {"x": {"not": {}}}}, strict=True)],
                "tool_choice": "required",
            },
            "tools[0].function.parameters",
        ),
        ({"tools": TOOLS, "tool_choice": "required", "max_tokens": 4}, "max_tokens"),
        ({"reasoning_effort": "extreme"}, "reasoning_effort"),
    ],
)
def test_what_cannot_be_is_refused_by_name(http: httpx.Client, asked: dict[str, Any], param: str) -> None:
    response = http.post(PATH, json=chat_body(**asked))
    assert response.status_code == 400, response.text
    assert response.json()["error"]["param"] == param


def test_a_keyword_that_cannot_be_enforced_is_passed_over_unless_strict(http: httpx.Client) -> None:
    schema = {"properties": {"x": {"type": "integer", "not": {"const": 3}}}, "required": ["x"]}
    answer = ask(http, tools=[function(parameters=schema)], tool_choice="required")
    ((_, arguments),) = calls_of(answer)
    assert isinstance(arguments["x"], int)


def test_reasoning_effort_of_a_model_that_does_not_reason_is_told_of(http: httpx.Client) -> None:
    answer = http.post(PATH, json=chat_body(reasoning_effort="high", max_tokens=1)).json()
    assert any("reasoning_effort is ignored" in warning for warning in answer["warnings"])
    quiet = http.post(PATH, json=chat_body(reasoning_effort="none", max_tokens=1)).json()
    assert quiet["warnings"] == []


# With a model that knows tools


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    require([QWEN])
    home: Path = tmp_path_factory.mktemp("qwen")
    served = Served(home / "home", [QWEN], ["generator.threads=2"])
    try:
        served.wait_ready()
        yield served.http
        served.stop()
    finally:
        served.end()


def test_auto_recognises_qwens_own_way_of_calling(qwen: httpx.Client) -> None:
    """It answers with a fenced block of JSON, whatever its template asks for."""
    answer = ask(qwen, model=QWEN)
    ((name, arguments),) = calls_of(answer)
    assert (name, arguments["city"]) == ("get_weather", "Paris")
    assert answer["choices"][0]["finish_reason"] == "tool_calls"
    assert answer["choices"][0]["message"]["content"] is None
    events = events_of(
        qwen.post(
            PATH,
            json=chat_body(QUESTION, model=QWEN, tools=TOOLS, temperature=0, max_tokens=120, stream=True),
        )
    )
    text, calls, reason = assembled(events)
    assert text == ""
    assert [(name, json.loads(text)) for name, text in calls] == [(name, arguments)]
    assert reason == "tool_calls"


def test_required_and_words(qwen: httpx.Client) -> None:
    ((name, arguments),) = calls_of(ask(qwen, "Add 3.5 and 9", model=QWEN, tool_choice="required"))
    assert (name, arguments) == ("add", {"a": 3.5, "b": 9})
    answer = ask(qwen, "What does HTTP stand for? Answer in words.", model=QWEN, max_tokens=60)
    assert calls_of(answer) == []
    assert answer["choices"][0]["message"]["content"]
    assert answer["warnings"] == []
