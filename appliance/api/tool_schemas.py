"""What requests say about tools: names, types and bounds of the chat surface's tool parameters."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

MAX_TOOLS = 128
Refused = Any

NAME_PATTERN = r"^[a-zA-Z0-9_-]{1,64}(?![\s\S])"
ToolName = Annotated[str, Meta(pattern=NAME_PATTERN)]
CallId = Annotated[str, Meta(min_length=1, max_length=256)]


class FunctionDefinition(Struct, forbid_unknown_fields=True, kw_only=True):
    name: ToolName
    description: Annotated[str, Meta(max_length=16_384)] | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ToolEntry(Struct, forbid_unknown_fields=True, kw_only=True):
    type: Literal["function", "custom"]
    function: FunctionDefinition | None = None
    custom: Refused = None


class FunctionName(Struct, forbid_unknown_fields=True, kw_only=True):
    name: ToolName


class AllowedTool(Struct, forbid_unknown_fields=True, kw_only=True):
    type: Literal["function"]
    function: FunctionName


class AllowedTools(Struct, forbid_unknown_fields=True, kw_only=True):
    mode: Literal["auto", "required"]
    tools: Annotated[list[AllowedTool], Meta(min_length=1, max_length=MAX_TOOLS)]


class ToolChoiceEntry(Struct, forbid_unknown_fields=True, kw_only=True):
    type: Literal["function", "allowed_tools", "custom"]
    function: FunctionName | None = None
    allowed_tools: AllowedTools | None = None
    custom: Refused = None


class FunctionCall(Struct, forbid_unknown_fields=True, kw_only=True):
    """A call that was made; `arguments` is JSON text as the model wrote it, right or wrong."""

    name: ToolName
    arguments: str


class ToolCallEntry(Struct, forbid_unknown_fields=True, kw_only=True):
    id: CallId
    type: Literal["function", "custom"] = "function"
    function: FunctionCall | None = None
    custom: Refused = None


Tools = Annotated[list[ToolEntry], Meta(max_length=MAX_TOOLS)]
Functions = Annotated[list[FunctionDefinition], Meta(max_length=MAX_TOOLS)]
ToolCalls = Annotated[list[ToolCallEntry], Meta(max_length=MAX_TOOLS)]
AnyToolChoice = Literal["none", "auto", "required"] | ToolChoiceEntry
AnyFunctionChoice = Literal["none", "auto"] | FunctionName


def is_tool_name(name: str) -> bool:
    return re.match(NAME_PATTERN, name) is not None
