"""Recorded answers of each family of models, read as they arrive: the same whatever the pieces."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.llm.dialects import detect
from appliance.llm.dialects.answer import Said
from appliance.llm.dialects.stream import AnswerStream, joined
from appliance.records import ChatPrompt, Tool, ToolChoice

WEATHER = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
    },
    "required": ["city"],
}
ADDITION = {"type": "object", "properties": {"a": {"type": "number"}, "b": {"type": "number"}}}
FILES = sorted((Path(__file__).parent / "answers").glob("*.toml"))
SIZES = (1, 2, 3, 5, 8, 13, 10_000)


def tools(*, strict: bool = False) -> tuple[Tool, ...]:
    return (
        Tool(name="get_weather", parameters=WEATHER, strict=strict),
        Tool(name="add", parameters=ADDITION),
        Tool(name="get_time"),
    )


def recorded() -> list[Any]:
    cases = []
    for file in FILES:
        family = tomllib.loads(file.read_text(encoding="utf-8"))
        for answer in family["answer"]:
            id = f"{file.stem}: {answer['name']}"
            cases.append(pytest.param(file.stem.replace("_", "-"), family["template"], answer, id=id))
    return cases


def read(template: str, answer: dict[str, Any], size: int) -> tuple[Said, AnswerStream]:
    """The answer in pieces of `size` characters, through the whole stream that the engine uses."""
    dialect = detect(template, has_tools="tools" in template)
    prompt = ChatPrompt(
        messages=(),
        tools=tools(strict=answer.get("strict", False)),
        tool_choice=ToolChoice(parallel=answer.get("parallel", True)),
    )
    stream = AnswerStream((), dialect.parser(prompt, answer.get("prompt", "")))
    written = answer["written"]
    said = []
    for at in range(0, len(written), size):
        if stream.stopped:
            break
        said.append(stream.push(written[at : at + size].encode()))
    return joined([*said, stream.finish(whole=answer.get("whole", True))]), stream


def calls_of(said: Said) -> list[list[str]]:
    calls: dict[int, list[str]] = {}
    for delta in said.tool_calls:
        if delta.index not in calls:
            assert delta.id
            assert delta.name, "a call begins with its id and name"
            calls[delta.index] = [delta.name, ""]
        else:
            assert delta.id is None
            assert delta.name is None, "only the first piece has them"
        calls[delta.index][1] += delta.arguments
    assert list(calls) == list(range(len(calls)))
    return list(calls.values())


@pytest.mark.parametrize(("family", "template", "answer"), recorded())
def test_an_answer_is_read_the_same_in_any_pieces(family: str, template: str, answer: dict[str, Any]) -> None:
    assert detect(template, has_tools="tools" in template).name == family
    for size in SIZES:
        said, stream = read(template, answer, size)
        assert said.text == answer.get("text", ""), size
        assert said.reasoning == answer.get("reasoning", ""), size
        expected = answer.get("calls", [])
        found = calls_of(said)
        if not answer.get("cut"):
            found = [[name, json.loads(arguments)] for name, arguments in found]
            expected = [[name, json.loads(arguments, strict=False)] for name, arguments in expected]
        assert found == expected, size
        assert len(stream.warnings) == len(answer.get("warnings", []))
        for warning, words in zip(stream.warnings, answer.get("warnings", []), strict=True):
            assert words in warning


def test_arguments_come_while_they_are_written() -> None:
    dialect = detect('tools <tool_call> {"name":', has_tools=True)
    stream = AnswerStream((), dialect.parser(ChatPrompt(messages=(), tools=tools()), ""))
    before = stream.push(b'<tool_call>\n{"name": "get_weather", "arguments": {"city": "Par')
    assert calls_of(before) == [["get_weather", '{"city": "Par']]
    assert [delta.arguments for delta in stream.push(b"is").tool_calls] == ["is"]


def test_text_is_held_back_only_while_it_may_be_a_marker() -> None:
    dialect = detect('tools <tool_call> {"name":', has_tools=True)
    stream = AnswerStream((), dialect.parser(ChatPrompt(messages=(), tools=tools()), ""))
    assert stream.push(b"5 <").text == "5"
    assert stream.push(b" 6 <to").text == " < 6"
    assert stream.push(b"do> ").text == " <todo>"
    assert stream.push(b"``").text == ""
    assert stream.push(b"x").text == " ``x"


def test_stop_strings_count_in_the_text_only() -> None:
    dialect = detect('tools <tool_call> {"name": </think>', has_tools=True)
    stream = AnswerStream(("halt",), dialect.parser(ChatPrompt(messages=(), tools=tools()), ""))
    said = [stream.push(piece) for piece in (b"<think>not halt yet</think>", b"Now ha", b"lt!", b"more")]
    assert joined(said) == Said("Now ", "not halt yet", ())
    assert stream.stopped
    assert stream.finish(whole=True) == Said()


def test_plain_answers_have_no_parser() -> None:
    prompt = ChatPrompt(messages=())
    assert detect("<|im_start|>", has_tools=False).parser(prompt, "") is None
    assert detect('tools <tool_call> {"name":', has_tools=True).parser(prompt, "") is None
    choice = ToolChoice(mode="none")
    forbidden = ChatPrompt(messages=(), tools=tools(), tool_choice=choice)
    assert detect('tools <tool_call> {"name":', has_tools=True).parser(forbidden, "") is None


def test_only_allowed_tools_can_be_called() -> None:
    dialect = detect('tools <tool_call> {"name":', has_tools=True)
    prompt = ChatPrompt(messages=(), tools=tools(), tool_choice=ToolChoice(names=("add",)))
    stream = AnswerStream((), dialect.parser(prompt, ""))
    stream.push(b'<tool_call>{"name": "get_time", "arguments": {}}</tool_call>')
    stream.finish(whole=True)
    assert not stream.has_calls


def test_ids_are_as_the_family_takes_them() -> None:
    def id_of(template: str, written: bytes) -> str:
        dialect = detect(template, has_tools=True)
        stream = AnswerStream((), dialect.parser(ChatPrompt(messages=(), tools=tools()), ""))
        said = joined([stream.push(written), stream.finish(whole=True)])
        assert said.tool_calls[0].id is not None
        return said.tool_calls[0].id

    hermes = id_of('<tool_call> {"name":', b'<tool_call>{"name": "get_time"}</tool_call>')
    assert hermes.startswith("call_")
    mistral = id_of("[TOOL_CALLS]", b'[TOOL_CALLS][{"name": "get_time"}]')
    assert len(mistral) == 9
    assert mistral.isalnum()


@pytest.mark.parametrize("rest", ["", "assistant", "<tool_call>", "assistant<|channel|>fin"])
def test_a_harmony_header_that_is_cut_off_is_no_text(rest: str) -> None:
    answer = {"written": f"<|channel|>final<|message|>Hello<|end|><|start|>{rest}"}
    said, _ = read("tools <|channel|>", answer, 3)
    assert said.text == "Hello"


TEMPLATES = [tomllib.loads(file.read_text(encoding="utf-8"))["template"] for file in FILES]
SCRAPS = st.sampled_from(
    [
        *["<tool_call>", "</tool_call>", "<think>", "</think>", "[TOOL_CALLS]", "[ARGS]", "<|python_tag|>"],
        *[
            "<｜tool▁calls▁begin｜>",
            "<｜tool▁call▁begin｜>",
            "<｜tool▁sep｜>",
            "<｜tool▁call▁end｜>",
            "function",
        ],
        *["<|channel|>", "<|message|>", "<|start|>", "<|end|>", "commentary to=functions.add", "analysis"],
        *["<function=add>", "<parameter=a>", "</parameter>", "</function>", "```json\n", "```", "\n", " "],
        *['{"name": "add", "arguments": {"a": 1, "b": 2}}', '{"name": "add"', "{", "}", "[", "]", ",", ":"],
        *['"', "\\", "add", "1", "-", "true", "x", "é", "<", "<tools>"],
    ]
)


@given(template=st.sampled_from(TEMPLATES), scraps=st.lists(SCRAPS, max_size=24), whole=st.booleans())
def test_no_answer_can_break_a_parser(template: str, scraps: list[str], whole: bool) -> None:
    """Whatever a model writes: no exception, the same in any pieces, and every call's name a given one."""
    answer = {"written": "".join(scraps), "whole": whole}
    first, _ = read(template, answer, 1)
    assert {name for name, _ in calls_of(first)} <= {tool.name for tool in tools()}
    at_once, _ = read(template, answer, 10_000)
    assert (first.text, first.reasoning) == (at_once.text, at_once.reasoning)
    assert calls_of(first) == calls_of(at_once)


@given(scraps=st.lists(SCRAPS, max_size=24))
def test_without_calls_and_reasoning_nothing_of_the_text_is_lost(scraps: list[str]) -> None:
    answer = {"written": "".join(scraps)}
    said, _ = read('tools <tool_call> {"name":', answer, 3)
    if not said.tool_calls:
        assert said.text == answer["written"]
