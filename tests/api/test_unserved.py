"""What OpenAI has and this server has not is answered in JSON with the reason, not as if it were unknown."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import openai.resources
import pytest

from appliance.api.routes import OPERATIONS
from appliance.api.unserved import UNSERVED
from tests.serving import Served

SDK = Path(inspect.getfile(openai.resources)).parent


def sdk_segments() -> set[str]:
    """The first segment of every path that the installed SDK asks for."""
    found: set[str] = set()
    for file in SDK.rglob("*.py"):
        found |= set(re.findall(r'"/([a-z_]+)(?=["/?])', file.read_text("utf-8")))
    return found - {"v1"}


def test_every_path_of_the_sdk_is_served_or_refused_with_a_reason() -> None:
    served = {operation.path.split("/")[2] for operation in OPERATIONS if operation.path.startswith("/v1/")}
    assert "chat" in sdk_segments()
    assert sdk_segments() - served - set(UNSERVED) == set()
    assert not served & set(UNSERVED)


def refused() -> Iterator[tuple[str, str]]:
    for segment in UNSERVED:
        yield "POST", f"/v1/{segment}"
        yield "GET", f"/v1/{segment}/abc/deep"


@pytest.mark.parametrize(("method", "path"), list(refused()))
def test_an_unserved_path_says_why(http: httpx.Client, method: str, path: str) -> None:
    response = http.request(method, path)
    assert response.status_code == 501
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-should-retry"] == "false"
    error = response.json()["error"]
    assert error["code"] == f"{path.split('/')[2]}_not_served"
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
