"""Every refusal: its status, and an error that names the parameter and what would be right."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest

from appliance.api.openapi import document
from tests.serving import CHAT, EMBED, RERANK, Served, chat_body

DOCUMENT = json.loads(document())
SMALL_BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": chat_body(),
    "/v1/completions": {"model": CHAT, "prompt": "Once"},
    "/v1/embeddings": {"model": EMBED, "input": "Once"},
    "/v1/rerank": {"model": RERANK, "query": "Once", "documents": ["upon"]},
    "/rerank": {"model": RERANK, "query": "Once", "documents": ["upon"]},
}
POST_PATHS = list(SMALL_BODIES)


def error_of(response: httpx.Response, status: int = 400) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"]
    body = response.json()
    assert list(body) == ["error"]
    error: dict[str, Any] = body["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert len(error["message"]) < 1000
    return error


def properties(path: str) -> dict[str, Any]:
    """The schema of each parameter of `path`, with references resolved."""
    schema = DOCUMENT["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    found: dict[str, Any] = resolved(schema)["properties"]
    return found


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    reference = schema.get("$ref")
    if reference is None:
        return schema
    found: dict[str, Any] = DOCUMENT["components"]["schemas"][reference.rpartition("/")[2]]
    return found


def numbers(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The numeric schemas that a parameter's own value may have."""
    for each in [schema, *schema.get("anyOf", ())]:
        if each.get("type") in ("integer", "number"):
            yield each


def out_of_range() -> Iterator[Any]:
    """Each number's first values beyond its two bounds; a number without both fails here."""
    for path in POST_PATHS:
        for name, schema in properties(path).items():
            for number in numbers(schema):
                step = 1 if number["type"] == "integer" else 0.001
                low = number["exclusiveMinimum"] if "exclusiveMinimum" in number else number["minimum"] - step
                high = number["maximum"] + step
                for value in (low, high, -1e300, 1e300):
                    yield pytest.param(path, name, value, id=f"{path}:{name}={value}")


@pytest.mark.parametrize(("path", "name", "value"), list(out_of_range()))
def test_every_number_is_bounded_on_both_sides(
    http: httpx.Client, path: str, name: str, value: float
) -> None:
    error = error_of(http.post(path, json=SMALL_BODIES[path] | {name: value}))
    assert (error["param"], error["code"]) == (name, "invalid_value")


def wrong_types() -> Iterator[Any]:
    for path in POST_PATHS:
        for name, schema in properties(path).items():
            kinds = {each.get("type") for each in [schema, *schema.get("anyOf", ())]}
            if kinds & {"integer", "number", "boolean", "string", "array"}:
                yield pytest.param(path, name, id=f"{path}:{name}")


@pytest.mark.parametrize(("path", "name"), list(wrong_types()))
def test_a_wrong_type_is_refused_by_name(http: httpx.Client, path: str, name: str) -> None:
    error = error_of(http.post(path, json=SMALL_BODIES[path] | {name: {"no": ["such", "thing"]}}))
    assert error["param"].startswith(name)


@pytest.mark.parametrize("path", POST_PATHS)
def test_a_missing_parameter_is_named(http: httpx.Client, path: str) -> None:
    for name in SMALL_BODIES[path]:
        body = {key: value for key, value in SMALL_BODIES[path].items() if key != name}
        error = error_of(http.post(path, json=body))
        assert (error["param"], error["code"]) == (name, "missing_required_parameter")


@pytest.mark.parametrize("path", POST_PATHS)
def test_an_unknown_parameter_is_named(http: httpx.Client, path: str) -> None:
    error = error_of(http.post(path, json=SMALL_BODIES[path] | {"modle": "x"}))
    assert (error["param"], error["code"]) == ("modle", "unknown_parameter")
    assert error["message"].endswith("Did you mean 'model'?")


def test_an_unknown_parameter_inside_another_is_named_by_its_place(http: httpx.Client) -> None:
    body = chat_body() | {"messages": [{"role": "user", "content": [{"type": "text", "txt": "hi"}]}]}
    error = error_of(http.post("/v1/chat/completions", json=body))
    assert error["param"] == "messages[0].content[0].txt"
    error = error_of(http.post("/v1/chat/completions", json=chat_body(stream_options={"usage": True})))
    assert error["param"] == "stream_options.usage"


def test_an_endless_parameter_name_is_not_repeated_whole(http: httpx.Client) -> None:
    error = error_of(http.post("/v1/chat/completions", json=chat_body() | {"x" * 1_000_000: 1}))
    assert error["param"] == "x" * 80 + "…"


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": "x"}, {"content": "y"}]}, "messages[1].role"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages[0].content[0].image_url",
        ),
        ({"messages": [{"role": "user", "content": [{"type": "smell"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"messages": [{"role": "user", "content": "x", "tool_call_id": "1"}]}, "messages[0].tool_call_id"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
        ({"tools": [{"type": "function", "function": {"name": "f\n"}}]}, "tools[0].function.name"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"response_format": {"type": "yaml"}}, "response_format.type"),
        ({"stop": ["x"] * 17}, "stop"),
        ({"stop": ""}, "stop"),
        ({"stop": ["a", ""]}, "stop[1]"),
        ({"logit_bias": {"a": 1}}, "logit_bias"),
        ({"logit_bias": {"1_0": 1}}, "logit_bias"),
        ({"logit_bias": {"-1": 1}}, "logit_bias"),
        ({"logit_bias": {"49152": 1}}, "logit_bias"),
        ({"logit_bias": {"9" * 30: 1}}, "logit_bias"),
        ({"logit_bias": {"1": 100.5}}, "logit_bias.1"),
        ({"chat_template_kwargs": {"x": 10**30}}, "chat_template_kwargs.x"),
        ({"chat_template_kwargs": {"messages": "x"}}, "chat_template_kwargs.messages"),
        ({"seed": 10**30}, "seed"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_tokens": "5"}, "max_tokens"),
        ({"temperature": True}, "temperature"),
        ({"model": ""}, "model"),
    ],
)
def test_a_wrong_value_in_a_chat_is_refused_by_place(
    http: httpx.Client, wrong: dict[str, Any], param: str
) -> None:
    assert error_of(http.post("/v1/chat/completions", json=chat_body(max_tokens=1) | wrong))["param"] == param


@pytest.mark.parametrize(
    "asked",
    [
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"x": 10**30}}}]},
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "s", "schema": {"const": 10**30}},
            }
        },
    ],
    ids=["tool", "schema"],
)
def test_a_number_over_64_bits_inside_a_schema_is_refused(http: httpx.Client, asked: dict[str, Any]) -> None:
    error = error_of(http.post("/v1/chat/completions", json=chat_body(max_tokens=1) | asked))
    assert "64 bits" in error["message"]
    assert http.post("/v1/chat/completions", json=chat_body(max_tokens=1)).status_code == 200


def test_a_whole_number_may_be_written_with_a_point(http: httpx.Client) -> None:
    text = msgspec.json.encode(chat_body()).decode()
    response = http.post("/v1/chat/completions", content=text[:-1] + ', "max_tokens": 1.0, "n": 1e0}')
    assert response.status_code == 200, response.text


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"model": "x",}',
        b"{} {}",
        b"nonsense",
        b'\xef\xbb\xbf{"model": "x"}',
        b'{"temperature": NaN}',
        b'{"temperature": Infinity}',
        b'{"temperature": 1e999}',
        b'{"seed": ' + b"9" * 5000 + b"}",
        b'{"model": "\xff\xfe"}',
        b'{"model": "\xed\xa0\x80"}',
        b'{"model": "\\ud800"}',
        b'{"model": "a\nb"}',
        b"[" * 100_000,
        b"[" * 65 + b"]" * 65,
        b'{"model":' * 100 + b"1" + b"}" * 100,
        b"[" + b"[]," * 262_144 + b"[]]",
    ],
    ids=lambda body: repr(body[:24]),
)
def test_what_is_not_json_is_refused(http: httpx.Client, body: bytes) -> None:
    assert error_of(http.post("/v1/chat/completions", content=body))["code"] == "invalid_json"


@pytest.mark.parametrize("body", [b"null", b"true", b"1", b'"text"', b"[]", b"[[[]]]"])
def test_json_that_is_no_object_is_refused(http: httpx.Client, body: bytes) -> None:
    error = error_of(http.post("/v1/embeddings", content=body))
    assert (error["code"], error["param"]) == ("invalid_value", None)


def test_brackets_inside_a_text_are_not_depth(http: httpx.Client) -> None:
    text = "[{" * 200 + '\\" [' * 10 + "\\\\"
    assert http.post("/v1/embeddings", json=SMALL_BODIES["/v1/embeddings"] | {"input": text}).status_code in (
        200,
        400,
    )
    refused = http.post("/v1/embeddings", json={"model": text[:200], "input": "x"})
    assert error_of(refused, 404)["code"] == "model_not_found"


def test_a_body_announced_too_large_is_refused_unread(server: Served) -> None:
    """The answer comes although no byte of the body was sent."""
    port = int(server.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 40000000\r\n\r\n"
        )
        assert connection.recv(64).startswith(b"HTTP/1.1 413 ")


def test_a_body_that_grows_too_large_is_refused(http: httpx.Client) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(40):
            yield b" " * 1024 * 1024

    error = error_of(http.post("/v1/chat/completions", content=endless()), 413)
    assert error["code"] == "payload_too_large"


@pytest.mark.parametrize("path", POST_PATHS)
def test_a_model_that_is_not_there_is_404_and_tells_which_are(http: httpx.Client, path: str) -> None:
    error = error_of(http.post(path, json=SMALL_BODIES[path] | {"model": "gpt-4o"}), 404)
    assert (error["param"], error["code"]) == ("model", "model_not_found")
    assert CHAT in error["message"]


@pytest.mark.parametrize(
    ("path", "model"), [("/v1/chat/completions", EMBED), ("/v1/embeddings", RERANK), ("/v1/rerank", CHAT)]
)
def test_a_model_of_another_role_is_refused_and_the_right_ones_told(
    http: httpx.Client, path: str, model: str
) -> None:
    error = error_of(http.post(path, json=SMALL_BODIES[path] | {"model": model}))
    assert error["param"] == "model"
    assert SMALL_BODIES[path]["model"] in error["message"]


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/chat", "/v1/chat/completions/", "/%00", "/é"])
def test_a_path_that_is_not_there_is_404_in_json(http: httpx.Client, path: str) -> None:
    assert error_of(http.get(path), 404)["code"] == "path_not_found"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/completions", "POST"),
        ("DELETE", "/v1/embeddings", "POST"),
        ("POST", "/v1/models", "GET"),
        ("PUT", "/healthz", "GET"),
        ("OPTIONS", "/v1/rerank", "POST"),
    ],
)
def test_a_method_that_a_path_does_not_take_is_405(
    http: httpx.Client, method: str, path: str, allowed: str
) -> None:
    response = http.request(method, path)
    assert error_of(response, 405)["code"] == "method_not_allowed"
    assert allowed in response.headers["allow"]


def test_a_prompt_over_the_context_is_refused_never_cut(http: httpx.Client) -> None:
    error = error_of(http.post("/v1/chat/completions", json=chat_body("word " * 9000)))
    assert (error["param"], error["code"]) == ("messages", "context_length_exceeded")
    assert "8192" in error["message"]
    error = error_of(http.post("/v1/completions", json={"model": CHAT, "prompt": [504] * 8192}))
    assert (error["param"], error["code"]) == ("prompt", "context_length_exceeded")


def test_an_answer_that_the_context_will_cut_is_told_at_its_beginning(http: httpx.Client) -> None:
    body = {"model": CHAT, "prompt": [504] * 16, "max_tokens": 9000, "stream": True}
    with http.stream("POST", "/v1/completions", json=body) as response:
        assert response.status_code == 200
        assert "leaves room for 8176" in response.headers["x-hearth-warning"]
