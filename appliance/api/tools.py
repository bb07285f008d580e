"""Tools, tool choices and earlier calls of a chat request as records, the deprecated functions among them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Literal

from appliance.api.schemas import ChatRequest
from appliance.api.tool_schemas import FunctionDefinition, ToolCallEntry, ToolChoiceEntry
from appliance.errors import InvalidValue, MissingParameter, UnsupportedParameter
from appliance.records import Tool, ToolCall, ToolChoice

MAX_SCHEMA_BYTES = 64 * 1024
MAX_SCHEMA_DEPTH = 32


def tools_of(request: ChatRequest) -> tuple[Tool, ...]:
    """Raises UnsupportedParameter for custom tools, InvalidValue for names twice and schemas too large."""
    if request.tools and request.functions:
        raise InvalidValue("functions is the old name of tools: give one of them", param="functions")
    tools: dict[str, Tool] = {}
    for path, definition in _definitions(request):
        if definition.name in tools:
            raise InvalidValue(f"the name {definition.name!r} is given twice", param=f"{path}.name")
        check_schema(definition.parameters, f"{path}.parameters")
        tools[definition.name] = Tool(
            name=definition.name,
            description=definition.description or "",
            parameters=definition.parameters or {},
            strict=bool(definition.strict),
        )
    return tuple(tools.values())


def _definitions(request: ChatRequest) -> Iterator[tuple[str, FunctionDefinition]]:
    for index, definition in enumerate(request.functions or ()):
        yield f"functions[{index}]", definition
    for index, entry in enumerate(request.tools or ()):
        path = f"tools[{index}]"
        if entry.type == "custom" or entry.custom is not None:
            raise UnsupportedParameter(
                f"{path} is a custom tool: the local models call functions with JSON arguments only",
                param=f"{path}.type",
            )
        if entry.function is None:
            raise MissingParameter(f"{path} needs `function`", param=f"{path}.function")
        yield f"{path}.function", entry.function


def check_schema(schema: dict[str, Any] | None, path: str) -> None:
    """Of a function's arguments. Raises InvalidValue naming `path`."""
    if not schema:
        return
    if schema.get("type", "object") != "object":
        raise InvalidValue(f"{path} must describe an object: its type is {schema['type']!r}", param=path)
    level: list[Any] = [schema]
    for _ in range(MAX_SCHEMA_DEPTH):
        level = [part for value in level for part in _parts(value)]
    if level:
        raise InvalidValue(f"{path} nests deeper than {MAX_SCHEMA_DEPTH} levels", param=path)
    size = len(json.dumps(schema, ensure_ascii=False).encode("utf-8", errors="replace"))
    if size > MAX_SCHEMA_BYTES:
        raise InvalidValue(f"{path} has {size} bytes; the limit is {MAX_SCHEMA_BYTES}", param=path)


def _parts(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def tool_choice_of(request: ChatRequest, tools: tuple[Tool, ...]) -> ToolChoice:
    """Raises InvalidValue for a choice of tools that were not given.

    A forced answer is one call unless `parallel_tool_calls` is true in so many words: small models that must
    call, and may call on, do not know when to stop.
    """
    wanted = request.tool_choice
    if request.function_call is not None:
        return _function_choice(request, tools)
    if wanted is None or isinstance(wanted, str):
        if wanted == "required" and not tools:
            raise InvalidValue("a tool call is required, but there are no tools", param="tool_choice")
        return _choice(request, wanted or "auto")
    return _explicit_choice(request, wanted, tools)


def _choice(
    request: ChatRequest, mode: Literal["none", "auto", "required"], names: tuple[str, ...] | None = None
) -> ToolChoice:
    parallel = request.parallel_tool_calls
    if request.functions:
        parallel = False
    elif parallel is None:
        parallel = mode != "required"
    return ToolChoice(mode=mode, names=names, parallel=parallel)


def _function_choice(request: ChatRequest, tools: tuple[Tool, ...]) -> ToolChoice:
    wanted = request.function_call
    if wanted is None or isinstance(wanted, str):
        return _choice(request, wanted or "auto")
    _require_known(wanted.name, tools, "function_call.name")
    return _choice(request, "required", (wanted.name,))


def _explicit_choice(request: ChatRequest, wanted: ToolChoiceEntry, tools: tuple[Tool, ...]) -> ToolChoice:
    if wanted.type == "custom" or wanted.custom is not None:
        raise UnsupportedParameter("custom tools are not served", param="tool_choice.type")
    if wanted.type == "function":
        if wanted.function is None:
            raise MissingParameter("tool_choice needs `function`", param="tool_choice.function")
        _require_known(wanted.function.name, tools, "tool_choice.function.name")
        return _choice(request, "required", (wanted.function.name,))
    if wanted.allowed_tools is None:
        raise MissingParameter("tool_choice needs `allowed_tools`", param="tool_choice.allowed_tools")
    names = [entry.function.name for entry in wanted.allowed_tools.tools]
    for index, name in enumerate(names):
        _require_known(name, tools, f"tool_choice.allowed_tools.tools[{index}].function.name")
    return _choice(request, wanted.allowed_tools.mode, tuple(names))


def _require_known(name: str, tools: tuple[Tool, ...], path: str) -> None:
    if all(tool.name != name for tool in tools):
        raise InvalidValue(f"{path} is {name!r}, which is none of the tools given", param=path)


def call_of(entry: ToolCallEntry, path: str) -> ToolCall:
    """A call that an earlier answer made."""
    if entry.type == "custom" or entry.custom is not None:
        raise UnsupportedParameter("custom tools are not served", param=f"{path}.type")
    if entry.function is None:
        raise MissingParameter(f"{path} needs `function`", param=f"{path}.function")
    return ToolCall(id=entry.id, name=entry.function.name, arguments=entry.function.arguments)
