"""What a request asks the model: what was said before, what it says itself, and the tools."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
from starlette.requests import Request

from appliance.api.responses.context import earlier_items, resolved, since_compaction
from appliance.api.responses.items import input_items, normal, restored
from appliance.api.responses.replies import ListToolsItem, OutputItem
from appliance.api.responses.schemas import ContextFields, Item, ToolChoiceEntry
from appliance.api.responses.server_tools import offered_tools
from appliance.api.responses.translate import Toolbox, prompt_of, toolbox_of
from appliance.api.responses.turns import turns_of
from appliance.errors import MissingParameter
from appliance.records import ChatPrompt, Message, ToolChoice

_encode = msgspec.json.Encoder().encode


@dataclass
class Context:
    """What a request asks the model: the turns before and of it, and the tools.

    `items`: all that was said, of which those from `first` on are the request's own, and `new` their form in
    the archive; `listings`: of the MCP servers whose tools were not listed before.
    """

    request: ContextFields
    items: list[Item]
    first: int
    new: list[dict[str, Any]]
    turns: list[Message]
    toolbox: Toolbox
    listings: list[ListToolsItem]

    def prompt(self) -> ChatPrompt:
        return prompt_of(self.request, self.turns, self.toolbox)

    def say(self, items: Sequence[OutputItem]) -> None:
        """What has been said and done in the meantime; a call is the model's choice from then on."""
        self.turns += turns_of([restored(_encode(item)) for item in items])
        before, wanted = self.toolbox.choice, self.request.tool_choice
        is_named = isinstance(wanted, ToolChoiceEntry) and wanted.type != "allowed_tools"
        choice = ToolChoice(mode="auto", names=None if is_named else before.names, parallel=before.parallel)
        self.toolbox = replace(self.toolbox, choice=choice)

    def forbid_tools(self) -> None:
        self.toolbox = replace(self.toolbox, choice=ToolChoice(mode="none"))


async def context_of(http: Request, request: ContextFields) -> Context:
    """Raises the errors of `turns`, `translate` and `context`, MissingParameter when nothing is said."""
    offered = await offered_tools(http, request.tools or ())
    toolbox = toolbox_of(request, offered)
    earlier = await earlier_items(http, request)
    items = await resolved(http, input_items(request.input))
    everything = since_compaction([*earlier, *items])
    first = max(0, len(everything) - len(items))
    turns = turns_of(everything, first=first)
    if (
        not turns
        and not request.instructions
        and not any(item.type == "mcp_approval_response" for item in items)
    ):
        raise MissingParameter("the parameter 'input' is required", param="input")
    listed = {item.server_label for item in everything if item.type == "mcp_list_tools"}
    return Context(
        request,
        everything,
        first,
        [normal(item) for item in items],
        turns,
        toolbox,
        [listing for listing in offered.listings if listing.error or listing.server_label not in listed],
    )
