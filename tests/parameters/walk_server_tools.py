"""What needs a server with tools of its own, which another test starts: named here, and seen to be there."""

from __future__ import annotations

from tests.clients import test_server_tools as seen
from tests.parameters.walk_sampling import RESPONSES
from tests.parameters.walker import Walker, elsewhere, walks


@walks(RESPONSES, "max_tool_calls")
def max_tool_calls(_: Walker) -> None:
    elsewhere(seen.test_there_are_no_more_calls_than_the_request_wants)


@walks(RESPONSES, "tools[].server_label", "tools[].allowed_tools")
def server_label(w: Walker) -> None:
    elsewhere(seen.test_events_are_numbered_and_tell_of_lists_and_calls)
    w.refused(RESPONSES, "there is no MCP server", tools=[{"type": "mcp", "server_label": "nobody"}])
    w.refused(RESPONSES, "server_label", tools=[{"type": "mcp"}])


@walks(
    RESPONSES,
    "tools[].require_approval",
    *(f"input[].{each}" for each in ("server_label", "approval_request_id", "approve", "reason")),
)
def approval(w: Walker) -> None:
    elsewhere(seen.test_calls_wait_for_approval_unless_the_client_says_otherwise)
    answer = {"type": "mcp_approval_response", "approval_request_id": "mcpr_nobody", "approve": True}
    w.refused(RESPONSES, "no approval request", input=[answer])
