"""Calls that this server runs for the model: approved ones before it speaks, its own between its turns.

Each ends in its item, with what the tool answered or why it failed; either goes back to the model.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request

from appliance.api.context import principal_of, runtime_of
from appliance.api.responses.items import kind_of
from appliance.api.responses.replies import ServerCallItem, new_id
from appliance.api.responses.schemas import Item
from appliance.api.responses.server_tools import ServerTool
from appliance.errors import InvalidValue, MissingParameter
from appliance.tools.tool import ToolFailure


class Calls:
    """The calls of one response. `most`: how many may be run; the rest are told so.

    A call that was made before is not run again: its answer is given again, and the model has to go on.
    """

    def __init__(self, http: Request, tools: dict[str, ServerTool], most: int | None) -> None:
        self._http, self._tools = http, tools
        configured = runtime_of(http).tools.most_calls
        self._left = configured if most is None else min(most, configured)
        self._warnings: list[str] = []
        self._made: dict[tuple[str, str, str], ServerCallItem] = {}
        self.has_repeated = False

    @property
    def are_over(self) -> bool:
        """Whether the model should answer now: no call is left, or it has begun to repeat itself."""
        return self._left <= 0 or self.has_repeated

    def new_warnings(self) -> list[str]:
        found, self._warnings = self._warnings, []
        return found

    async def run(self, item: ServerCallItem) -> None:
        """Run what the item says, and note in it how that ended."""
        asked = (item.server_label, item.name, item.arguments)
        if (before := self._made.get(asked)) is not None:
            item.output, item.error, item.status = before.output, before.error, before.status
            self.has_repeated = True
            return
        if self._left <= 0:
            _fail(item, ToolFailure("not run: the response has had all its tool calls (max_tool_calls)"))
            return
        self._left -= 1
        self._made[asked] = item
        called = await runtime_of(self._http).tools.call(
            principal_of(self._http).id, item.server_label, item.name, item.arguments
        )
        if called.failure is not None:
            _fail(item, called.failure)
            return
        if called.is_cut:
            self._warnings.append(f"the answer of {item.name} was cut (tools.output_bytes)")
        item.output, item.status = called.text, "completed"

    def approved(self, items: Sequence[Item], first: int) -> list[ServerCallItem]:
        """The calls that the request's own items, those from `first` on, approve.

        Raises InvalidValue for an answer to nothing, and for tools that the request does not give.
        """
        asked = {item.id: item for item in items if kind_of(item) == "mcp_approval_request"}
        calls = []
        for index, item in enumerate(items[first:]):
            if kind_of(item) != "mcp_approval_response":
                continue
            where = f"input[{index}]"
            if item.approve is None or item.approval_request_id is None:
                raise MissingParameter(
                    f"{where} needs `approval_request_id` and `approve`", param=f"{where}.approve"
                )
            request = asked.get(item.approval_request_id)
            if request is None or request.name is None:
                raise InvalidValue(
                    f"{where} answers {item.approval_request_id!r}, which is no approval request",
                    param=where,
                )
            if not item.approve:
                continue
            tool = self._tools.get(request.name)
            if tool is None or tool.server != request.server_label:
                raise InvalidValue(
                    f"{where} approves a call of {request.name!r}, which is not among `tools`", param=where
                )
            calls.append(
                ServerCallItem(
                    id=new_id("mcp"),
                    server_label=tool.server,
                    name=request.name,
                    arguments=request.arguments or "{}",
                    approval_request_id=request.id,
                )
            )
        return calls


def _fail(item: ServerCallItem, failure: ToolFailure) -> None:
    item.status = "failed"
    if failure.kind == "execution":
        item.error = {
            "type": "mcp_tool_execution_error",
            "content": [{"type": "text", "text": failure.message}],
        }
    else:
        kind = "http_error" if failure.kind == "http" else "mcp_protocol_error"
        item.error = {"type": kind, "code": failure.code, "message": failure.message}
