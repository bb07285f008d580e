"""What OpenAI has and this server has not is answered in JSON with the reason, not as if it were unknown."""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import anthropic
import httpx
import ollama
import openai
import pytest

from appliance.api.routes import OPERATIONS
from appliance.api.unserved import MISSING, OLLAMA_UNSERVED, UNSERVED
from tests.serving import Served

METHODS = {name: name.removeprefix("_").upper() for name in ("_get", "_post", "_put", "_patch", "_delete")}
CALLS = METHODS | {"_get_api_list": "GET"}
Call = tuple[str, str]


def calls_of(package: ModuleType) -> set[Call]:
    """The method and path of every request that the installed SDK can make, `x` for each id within."""
    (root,) = package.__path__
    found: set[Call] = set()
    for file in Path(root, "resources").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
                method = _named_method(node) or CALLS.get(node.func.attr)
                path = _path(node.args[0])
                if method is not None and path is not None:
                    found.add((method, path if path.startswith("/v1/") else f"/v1{path}"))
    return found


def _named_method(call: ast.Call) -> str | None:
    """`_get_api_list(…, method="post")`, where the call is one."""
    if isinstance(call.func, ast.Attribute) and call.func.attr == "_get_api_list":
        for keyword in call.keywords:
            if keyword.arg == "method" and isinstance(keyword.value, ast.Constant):
                return str(keyword.value.value).upper()
    return None


def _path(given: ast.expr) -> str | None:
    """A literal, or `path_template(literal, …)`."""
    if isinstance(given, ast.Call) and given.args:
        return _path(given.args[0])
    if not isinstance(given, ast.Constant) or not str(given.value).startswith("/"):
        return None
    return re.sub(r"{[^}]*}", "x", str(given.value).partition("?")[0])


def ollama_calls() -> set[Call]:
    """As `calls_of`; its client names the path as the second word of a request."""
    assert ollama.__file__ is not None
    tree = ast.parse(Path(ollama.__file__).with_name("_client.py").read_text("utf-8"))
    words = [
        [word.value for word in node.args if isinstance(word, ast.Constant)]
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    ]
    return {
        (str(method), str(path))
        for found in words
        for method, path in itertools.pairwise(found)
        if str(path).startswith("/api/")
    }


def served_calls() -> set[Call]:
    return {(each.method, re.sub(r"{[^}]*}", "x", each.path)) for each in OPERATIONS}


CALLS_OF = {
    "openai": calls_of(openai),
    "anthropic": calls_of(anthropic),
    "ollama": ollama_calls(),
}


def test_the_sdks_are_read() -> None:
    least = {"openai": 300, "anthropic": 200, "ollama": 10}
    assert {name: len(calls) >= least[name] for name, calls in CALLS_OF.items()} == dict.fromkeys(least, True)
    assert ("POST", "/v1/vector_stores/x/search") in CALLS_OF["openai"]


@pytest.mark.parametrize("sdk", CALLS_OF)
def test_every_call_of_an_sdk_is_served_or_refused_with_a_reason(http: httpx.Client, sdk: str) -> None:
    wrong = []
    for method, path in sorted(CALLS_OF[sdk] - served_calls()):
        response = http.request(method, path)
        told = response.json()["error"]
        message = told if isinstance(told, str) else told["message"]
        if response.status_code != 501 or "is not served here: " not in message:
            wrong.append((method, path, response.status_code, message))
    assert not wrong


def test_nothing_that_is_served_is_called_unserved() -> None:
    segments = {path.split("/")[2] for _, path in served_calls() if path.startswith(("/v1/", "/api/"))}
    assert not segments & set(UNSERVED)
    assert not {path.split("/")[2] for _, path in served_calls() if path.startswith("/api/")} & set(
        OLLAMA_UNSERVED
    )
    for method, path in served_calls():
        assert not any(path.startswith(each.path) and each.method in ("", method) for each in MISSING)


def refused() -> Iterator[tuple[str, str, str]]:
    for segment in UNSERVED:
        yield "POST", f"/v1/{segment}", segment
        yield "GET", f"/v1/{segment}/abc/deep", segment
    yield "DELETE", "/v1/models/platform/a-model", "model_deletion"


@pytest.mark.parametrize(("method", "path", "name"), list(refused()))
def test_an_unserved_path_says_why(http: httpx.Client, method: str, path: str, name: str) -> None:
    response = http.request(method, path)
    assert response.status_code == 501
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-should-retry"] == "false"
    error = response.json()["error"]
    assert error["code"] == f"{name}_not_served"
    assert "is not served here: " in error["message"]


def test_a_path_that_nobody_has_is_404(http: httpx.Client) -> None:
    for path in ("/v1/nonsense", "/nonsense", "/v1/moderation"):
        response = http.get(path)
        assert response.status_code == 404
        assert response.json()["error"]["code"] == "path_not_found"


def test_a_wrong_method_is_405_and_names_the_right_ones(http: httpx.Client) -> None:
    for operation in OPERATIONS:
        if "{" not in operation.path:
            response = http.patch(operation.path)
            assert response.status_code == 405
            assert "does not take PATCH" in response.text
            assert operation.method in response.headers["allow"]


def test_the_sdk_asks_once_only(server: Served) -> None:
    counter = 'hearth_http_requests_total{method="POST",path="other",status="501"}'

    def count() -> float:
        lines = server.http.get("/metrics").text.splitlines()
        return next((float(line.split()[-1]) for line in lines if line.startswith(counter)), 0.0)

    before = count()
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=3)
    with client, pytest.raises(openai.InternalServerError, match="no moderation model"):
        client.moderations.create(input="hello")
    assert count() == before + 1
