"""The tools of a request that this server runs: built-in ones, and those of MCP servers from the settings.

A built-in tool is asked for by its name, `{"type": "calculator"}`; an MCP server by its label. Clients never
name addresses: what is reached is the operator's to say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request

from appliance.api.context import principal_of, runtime_of
from appliance.api.responses.replies import ListedTool, ListToolsItem, new_id
from appliance.api.responses.schemas import ApprovalFilters, ToolEntry, ToolFilter
from appliance.api.tool_schemas import MAX_TOOLS, is_tool_name
from appliance.errors import InvalidValue, MissingParameter
from appliance.records import Tool
from appliance.tools.service import BUILT_IN
from appliance.tools.tool import ToolFact, ToolFailure

MCP = "mcp"


@dataclass(frozen=True)
class ServerTool:
    """`tool` is what the model is shown."""

    server: str
    tool: Tool
    needs_approval: bool


@dataclass
class Offered:
    """`tools` by name; `listings` are told to the client, a server's that did not answer too."""

    tools: dict[str, ServerTool] = field(default_factory=dict)
    listings: list[ListToolsItem] = field(default_factory=list)

    def add(self, server: str, fact: ToolFact, param: str, *, needs_approval: bool) -> None:
        """Raises InvalidValue for a name that no model could be told, or that is taken."""
        if not is_tool_name(fact.name):
            raise InvalidValue(f"{param}: {server} has a tool with the name {fact.name[:80]!r}", param=param)
        if fact.name in self.tools or len(self.tools) == MAX_TOOLS:
            what = "is given twice" if fact.name in self.tools else f"is one more than {MAX_TOOLS}"
            raise InvalidValue(f"{param}: the tool {fact.name!r} {what}; use `allowed_tools`", param=param)
        tool = Tool(name=fact.name, description=fact.description, parameters=fact.parameters)
        self.tools[fact.name] = ServerTool(server, tool, needs_approval)


async def offered_tools(http: Request, entries: Sequence[ToolEntry]) -> Offered:
    """Raises Forbidden for what this key may not use, InvalidValue, MissingParameter."""
    offered = Offered()
    tools, allowed = runtime_of(http).tools, allowed_tools(http)
    for index, entry in enumerate(entries):
        param = f"tools[{index}]"
        if tools.is_built_in(entry.type):
            offered.add(
                BUILT_IN, tools.built_in(entry.type, allowed, f"{param}.type"), param, needs_approval=False
            )
        elif entry.type == MCP:
            await _add_server(http, offered, entry, param)
    return offered


def allowed_tools(http: Request) -> tuple[str, ...]:
    """What the request's key may use; without a key, what the settings enable."""
    runtime, principal = runtime_of(http), principal_of(http)
    if not principal.credential:
        return runtime.settings.tools.enabled
    return tuple(name for name in runtime.tools.names() if principal.may_use_tool(name))


async def _add_server(http: Request, offered: Offered, entry: ToolEntry, param: str) -> None:
    if entry.server_label is None:
        raise MissingParameter(f"{param} needs `server_label`", param=f"{param}.server_label")
    listing = ListToolsItem(id=new_id("mcpl"), server_label=entry.server_label)
    offered.listings.append(listing)
    try:
        found = await runtime_of(http).tools.offered(
            entry.server_label, allowed_tools(http), f"{param}.server_label"
        )
    except ToolFailure as failure:
        listing.error = failure.message
        return
    wanted = [fact for fact in found if _is_wanted(fact, entry.allowed_tools)]
    for fact in wanted:
        offered.add(entry.server_label, fact, param, needs_approval=_needs_approval(fact, entry))
    listing.tools = [
        ListedTool(
            name=fact.name,
            description=fact.description,
            input_schema=fact.parameters,
            annotations=fact.annotations,
        )
        for fact in wanted
    ]


def _is_wanted(fact: ToolFact, allowed: list[str] | ToolFilter | None) -> bool:
    if isinstance(allowed, list):
        return fact.name in allowed
    return allowed is None or _matches(fact, allowed)


def _needs_approval(fact: ToolFact, entry: ToolEntry) -> bool:
    """Where the request says nothing every call is asked about first, as OpenAI has it."""
    wanted = entry.require_approval
    if isinstance(wanted, ApprovalFilters):
        if wanted.never is not None and _matches(fact, wanted.never):
            return False
        return wanted.always is None or wanted.never is not None or _matches(fact, wanted.always)
    return wanted != "never"


def _matches(fact: ToolFact, filter: ToolFilter) -> bool:
    annotations: dict[str, Any] = fact.annotations or {}
    named = filter.tool_names is None or fact.name in filter.tool_names
    return named and (
        filter.read_only is None or filter.read_only == (annotations.get("readOnlyHint") is True)
    )
