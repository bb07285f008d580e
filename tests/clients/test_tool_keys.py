"""Server-side tools are off unless a key has them: one key with the calculator, one without, over HTTP."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

from appliance import admin
from appliance.client import Client
from appliance.principal import Grant
from appliance.tools.calculator import calculate
from tests.conftest import StartServer
from tests.serving import CHAT, Served

CALCULATOR: Any = {"type": "calculator"}
SUMS = ("2+2", "12*3", "What is 2 + 2?", "7 - 4")  # the model's own words for one of them are a sum


class House:
    """A server with keys; nobody comes in without one."""

    def __init__(self, served: Served) -> None:
        self.served = served
        with Client(served.url) as first:
            self.admin = first.create_key(admin.NewKey(name="boss", grant=Grant(role="admin"))).secret

    def key(self, name: str, *tools: str) -> admin.IssuedKey:
        with Client(self.served.url, self.admin) as client:
            grant = Grant(role="user", tools=tools or None)
            return client.create_key(admin.NewKey(name=name, grant=grant))

    def ask(self, secret: str, question: str = "2+2", **fields: Any) -> Any:
        asked = {"model": CHAT, "temperature": 0, "max_output_tokens": 300, "tools": [CALCULATOR], **fields}
        with openai.OpenAI(base_url=f"{self.served.url}/v1", api_key=secret, max_retries=0) as client:
            return client.responses.create(input=question, **asked)

    def calls(self) -> list[tuple[str, str]]:
        """Who called what, from the audit."""
        headers = {"authorization": f"Bearer {self.admin}"}
        lines = self.served.http.get("/admin/v1/audit", params={"limit": 1000}, headers=headers).json()
        return [(line["user"], line["detail"]) for line in lines["data"] if line["event"] == "tool"]


@pytest.fixture
def house(start_server: StartServer) -> House:
    return House(start_server("knowledge.enabled=false"))


def test_a_key_with_the_tool_has_its_calls_run_and_audited(house: House) -> None:
    key = house.key("sums", "calculator")
    done = []
    for question in SUMS:
        made = house.ask(key.secret, question, tool_choice=CALCULATOR)
        call = made.output[0]
        assert (call.type, call.server_label, call.name) == ("mcp_call", "hearth", "calculator")
        done += [call] if call.status == "completed" else []
    assert done, "the calculator understood none of the model's sums"
    for call in done:
        assert call.output == calculate(json.loads(call.arguments)["expression"])
    calls = house.calls()
    assert len({user for user, _ in calls}) == 1
    assert len([detail for _, detail in calls if detail.startswith("hearth/calculator: ok")]) >= len(done)


@pytest.mark.parametrize("other", [(), ("local_http",)])
def test_a_key_without_the_tool_is_refused_and_nothing_is_called(
    house: House, other: tuple[str, ...]
) -> None:
    key = house.key("plain", *other)
    with pytest.raises(openai.PermissionDeniedError, match="calculator") as refused:
        house.ask(key.secret)
    assert refused.value.status_code == 403
    assert refused.value.param == "tools[0].type"
    assert house.ask(key.secret, tools=[]).output_text
    assert house.calls() == []


def test_a_key_that_loses_the_tool_is_refused_from_then_on(house: House) -> None:
    key = house.key("sums", "calculator")
    assert house.ask(key.secret, tool_choice=CALCULATOR).output[0].type == "mcp_call"
    with Client(house.served.url, house.admin) as client:
        client.change_key(key.key.id, admin.KeyChange(grant=Grant(role="user")))
    with pytest.raises(openai.PermissionDeniedError, match="calculator"):
        house.ask(key.secret)
