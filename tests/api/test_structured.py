"""Answers held to a schema, a regex or a grammar, over HTTP and with the real model."""

from __future__ import annotations

import json
import re

import pytest

from tests.serving import Served, events_of, text_of
from tests.tiny_server import StartTiny

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer"},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON, "strict": True}}


@pytest.mark.parametrize("max_tokens", [40, 100])
@pytest.mark.parametrize("temperature", [0, 1.5])
def test_a_schema_answer_is_always_whole(server: Served, max_tokens: int, temperature: float) -> None:
    reply = server.chat(
        "Describe Ada.", response_format=FORMAT, max_tokens=max_tokens, temperature=temperature, seed=5
    ).json()
    choice = reply["choices"][0]
    answer = json.loads(choice["message"]["content"])
    assert set(answer) == {"name", "age", "tags"}
    assert isinstance(answer["age"], int)
    assert reply["usage"]["completion_tokens"] <= max_tokens
    assert choice["finish_reason"] in ("stop", "length")


def test_a_streamed_schema_answer_is_whole_too(server: Served) -> None:
    body = {
        "model": "smollm2-135m-instruct",
        "messages": [{"role": "user", "content": "Describe Ada."}],
        "response_format": FORMAT,
        "max_tokens": 60,
        "stream": True,
        "n": 2,
    }
    with server.http.stream("POST", "/v1/chat/completions", json=body) as response:
        events = events_of(response)
    for choice in range(2):
        assert set(json.loads(text_of(events, choice))) == {"name", "age", "tags"}


def test_json_object(server: Served) -> None:
    reply = server.chat("Give me JSON.", response_format={"type": "json_object"}, max_tokens=40).json()
    assert isinstance(json.loads(reply["choices"][0]["message"]["content"]), dict)


def test_regex_and_grammar(server: Served) -> None:
    pattern = r"[A-Z][a-z]{1,10} is [0-9]{1,3} years old\."
    said = server.chat("How old is Ada?", regex=pattern, max_tokens=30).json()["choices"][0]["message"][
        "content"
    ]
    assert re.fullmatch(pattern, said)
    said = server.chat("Is water wet?", grammar='root ::= "yes" | "no"', max_tokens=5).json()
    assert said["choices"][0]["message"]["content"] in ("yes", "no")


def test_completions_take_constraints_too(server: Served) -> None:
    reply = server.http.post(
        "/v1/completions",
        json={"model": "smollm2-135m-instruct", "prompt": "2 + 2 =", "regex": " [0-9]", "max_tokens": 8},
    )
    assert re.fullmatch(" [0-9]", reply.json()["choices"][0]["text"])


@pytest.mark.parametrize(
    ("parameters", "param"),
    [
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "x", "schema": {"type": "array", "contains": {}}},
                }
            },
            "response_format.json_schema.schema",
        ),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"response_format": FORMAT, "max_tokens": 3}, "max_tokens"),
        ({"response_format": FORMAT, "regex": "a"}, "regex"),
        ({"response_format": FORMAT, "stop": ["}"]}, "stop"),
        ({"regex": "(unclosed"}, "regex"),
        ({"grammar": "root ::= nowhere"}, "grammar"),
        # the tiny model has no token for some of these bytes, so no answer can be written at all
        ({"regex": "\u00e9\u00d44\u00ac\U000f0011\u0006p0"}, "max_tokens"),
    ],
)
def test_what_cannot_be_held_to_is_refused_before_a_token(
    server: Served, parameters: dict[str, object], param: str
) -> None:
    reply = server.chat("Hello.", **parameters)
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == param


@pytest.mark.parametrize("text", ["x", "-1", "x y", "hello"])
def test_a_text_that_is_given_whole_is_said_by_a_sentencepiece_model(
    start_tiny: StartTiny, text: str
) -> None:
    """Its tokenizer puts a space in front of every text, which is one too many within an answer."""
    server = start_tiny(room_for=1, models=("ada",))
    body = {"model": "ada", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 20, "regex": text}
    answer = server.http.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["message"]["content"] == text
