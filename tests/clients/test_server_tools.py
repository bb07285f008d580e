"""Tools that the server runs, as the openai SDK sees them: items, events, approval, limits, the audit."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.clients.routed import toml
from tests.clients.test_wire_types import CASES
from tests.clients.wire_events import response_events
from tests.conftest import require
from tests.serving import CHAT, Served

PEER = str(Path(__file__).parents[1] / "tools" / "mcp_peer.py")
TOOLS = {
    "enabled": ["calculator", "local_http", "peer", "gone"],
    "servers": [
        {"name": "peer", "command": [sys.executable, PEER, "stdio"], "seconds": 60},
        {"name": "gone", "command": ["/nowhere/program"]},
        {"name": "closed", "command": ["/nowhere/program"]},
    ],
    "output_bytes": 300,
    "calls": 3,
}
ASKED: Any = {"model": CHAT, "temperature": 0, "max_output_tokens": 200}


def mcp(**fields: Any) -> Any:
    return {"type": "mcp", "server_label": "peer", "require_approval": "never", **fields}


def wanted(name: str) -> Any:
    return {"type": "mcp", "server_label": "peer", "name": name}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    require((CHAT,))
    home = tmp_path_factory.mktemp("tools") / "home"
    home.mkdir()
    lines = [f"{key} = {toml(value)}" for key, value in TOOLS.items()]
    (home / "hearth.toml").write_text("\n".join(["[tools]", *lines, ""]), "utf-8")
    served = Served(home, (CHAT,))
    try:
        served.wait_ready()
        yield served
        served.stop()
    finally:
        served.end()


@pytest.fixture(scope="module")
def client(served: Served) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="unused", max_retries=0) as client:
        yield client


def kinds(response: Any) -> list[str]:
    return [item.type for item in response.output]


def test_a_call_is_run_and_the_model_goes_on_from_its_answer(client: openai.OpenAI) -> None:
    response = client.responses.create(
        input="What is 2 + 2?",
        tools=[{"type": "calculator"}],  # type: ignore[misc,list-item]
        tool_choice={"type": "calculator"},  # type: ignore[typeddict-item]
        **(ASKED | {"max_output_tokens": 600}),
    )
    first, last = response.output[0], response.output[-1]
    assert first.type == "mcp_call"
    assert (first.server_label, first.name) == ("hearth", "calculator")
    # What a model of this size calculates is its own; that it is told the outcome is ours.
    assert (first.status, first.error is None) in (("completed", True), ("failed", False))
    assert last.type == "message"
    assert response.usage is not None
    again = client.responses.create(input="Thanks.", previous_response_id=response.id, **ASKED)
    assert again.usage is not None
    assert again.usage.input_tokens > response.usage.input_tokens / 3
    items = client.responses.retrieve(response.id).output
    assert [item.model_dump() for item in items] == [item.model_dump() for item in response.output]


def test_events_are_numbered_and_tell_of_lists_and_calls(client: openai.OpenAI) -> None:
    with client.responses.stream(
        input="Add 2 and 40.", tools=[mcp(allowed_tools=["add"])], tool_choice=wanted("add"), **ASKED
    ) as stream:
        events = list(stream)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    names = [event.type.removeprefix("response.") for event in events]
    assert names[:5] == [
        "created",
        "in_progress",
        "output_item.added",
        "mcp_list_tools.in_progress",
        "mcp_list_tools.completed",
    ]
    call = [name for name in names if name.startswith("mcp_call") and not name.endswith("delta")]
    assert call[:2] == ["mcp_call.in_progress", "mcp_call_arguments.done"]
    assert call[2] in ("mcp_call.completed", "mcp_call.failed")
    assert names[-1] in ("completed", "incomplete")
    body: Any = events[-1]
    added = [event for event in events if event.type == "response.output_item.added"]
    done = [event for event in events if event.type == "response.output_item.done"]
    assert len(added) == len(done) == len(body.response.output)
    assert {event.output_index for event in done} == set(range(len(done)))
    assert [tool.name for tool in body.response.output[0].tools] == ["add"]


def test_events_are_as_the_sdk_types_them(served: Served) -> None:
    found: set[str] = set()
    for tool, choice in (
        (mcp(), wanted("add")),
        (mcp(), wanted("fail")),
        (mcp(server_label="gone"), "auto"),
    ):
        asked = {"input": "Add 2 and 40.", "tools": [tool], "tool_choice": choice, "stream": True, **ASKED}
        answer = served.http.post("/v1/responses", json=asked)
        found |= {event["type"].removeprefix("response.") for event in response_events(answer.text)}
    assert CASES["tools"] <= found


def test_a_tool_that_fails_is_told_to_the_model_and_the_client(client: openai.OpenAI) -> None:
    response = client.responses.create(input="Fail.", tools=[mcp()], tool_choice=wanted("fail"), **ASKED)
    call = next(item for item in response.output if item.type == "mcp_call")
    assert call.status == "failed"
    assert call.error is not None
    assert call.error.type == "mcp_tool_execution_error"
    assert response.output[-1].type == "message"


def test_a_server_that_does_not_start_is_told_in_its_list(client: openai.OpenAI) -> None:
    response = client.responses.create(input="Hello.", tools=[mcp(server_label="gone")], **ASKED)
    assert response.output[0].type == "mcp_list_tools"
    assert "did not start" in str(response.output[0].error)
    assert response.output[-1].type == "message"


@pytest.mark.parametrize("approve", [True, False])
def test_calls_wait_for_approval_unless_the_client_says_otherwise(
    client: openai.OpenAI, approve: bool
) -> None:
    tool = mcp(allowed_tools=["add"])
    del tool["require_approval"]
    asked = client.responses.create(input="Add 2 and 40.", tools=[tool], tool_choice=wanted("add"), **ASKED)
    assert kinds(asked) == ["mcp_list_tools", "mcp_approval_request"]
    request = asked.output[1]
    answer: Any = {"type": "mcp_approval_response", "approval_request_id": request.id, "approve": approve}
    response = client.responses.create(
        previous_response_id=asked.id, input=[answer], tools=[tool], tool_choice="none", **ASKED
    )
    calls = [item for item in response.output if item.type == "mcp_call"]
    assert [call.approval_request_id for call in calls] == ([request.id] if approve else [])
    assert response.output[-1].type == "message"
    assert "mcp_list_tools" not in kinds(response)
    with pytest.raises(openai.BadRequestError, match="no approval request"):
        client.responses.create(input=[answer | {"approval_request_id": "mcpr_0"}], tools=[tool], **ASKED)


def test_filters_of_approval_name_tools(client: openai.OpenAI) -> None:
    tool = mcp(require_approval={"never": {"tool_names": ["add"]}})
    for name, kind in (("add", "mcp_call"), ("fail", "mcp_approval_request")):
        response = client.responses.create(input="Do it.", tools=[tool], tool_choice=wanted(name), **ASKED)
        assert kinds(response)[1] == kind


def test_there_are_no_more_calls_than_the_request_wants(client: openai.OpenAI) -> None:
    response = client.responses.create(
        input="Count up.", tools=[mcp()], tool_choice=wanted("add"), max_tool_calls=1, **ASKED
    )
    calls = [item for item in response.output if item.type == "mcp_call"]
    assert len(calls) == 1
    assert response.output[-1].type == "message"


@pytest.mark.parametrize(
    ("tool", "error", "text"),
    [
        (mcp(server_label="closed"), openai.PermissionDeniedError, "not enabled"),
        (mcp(server_label="other"), openai.BadRequestError, "there is no MCP server"),
        (mcp(server_url="http://127.0.0.1/"), openai.BadRequestError, "server_url"),
        ({"type": "mcp"}, openai.BadRequestError, "server_label"),
        ({"type": "web_search"}, openai.BadRequestError, "web_search"),
    ],
)
def test_what_is_not_served_is_refused(
    client: openai.OpenAI, tool: Any, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        client.responses.create(input="Hello.", tools=[tool], **ASKED)


def test_functions_and_server_tools_go_together(client: openai.OpenAI) -> None:
    function: Any = {"type": "function", "name": "mine", "parameters": {"type": "object", "properties": {}}}
    response = client.responses.create(
        input="Go.", tools=[mcp(), function], tool_choice={"type": "function", "name": "mine"}, **ASKED
    )
    assert kinds(response)[-1] == "function_call"
    with pytest.raises(openai.BadRequestError, match="twice"):
        client.responses.create(input="Go.", tools=[mcp(), function | {"name": "add"}], **ASKED)


def test_the_audit_has_every_call(served: Served) -> None:
    lines = served.http.get("/admin/v1/audit", params={"limit": 1000}).json()["data"]
    told = [line["detail"] for line in lines if line["event"] == "tool"]
    assert any(each.startswith("hearth/calculator: ") for each in told)
    assert any(each.startswith("peer/fail: execution") for each in told)


def test_nothing_is_enabled_by_itself(start_server: Any) -> None:
    served = start_server()
    with (
        openai.OpenAI(base_url=f"{served.url}/v1", api_key="unused", max_retries=0) as client,
        pytest.raises(openai.PermissionDeniedError, match=r"tools\.enabled"),
    ):
        client.responses.create(input="Hello.", tools=[{"type": "calculator"}], **ASKED)  # type: ignore[misc,list-item]
