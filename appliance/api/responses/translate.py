"""A request to what a generator is asked: tools, choice of tools, constraint, sampling. Asks nobody."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from appliance.api.generation import sampling_params
from appliance.api.responses.schemas import (
    AllowedTool,
    ContextFields,
    CreateResponse,
    TextFormat,
    ToolChoiceEntry,
    ToolEntry,
)
from appliance.api.responses.server_tools import MCP, Offered, ServerTool
from appliance.api.schemas import SamplingFields
from appliance.api.tools import check_schema
from appliance.config.schema import Generator
from appliance.errors import InvalidValue, MissingParameter, UnsupportedParameter
from appliance.records import (
    ChatPrompt,
    Constraint,
    JsonConstraint,
    Message,
    SamplingParams,
    Tool,
    ToolChoice,
)

FILE_SEARCH = "file_search"
TOOL_TYPES = ("function", FILE_SEARCH, MCP, "calculator", "local_http")
DEFAULT_TOP_LOGPROBS = 0


@dataclass(frozen=True)
class Toolbox:
    """What the model may call, and what is searched before it speaks. `functions`: the client's own and those
    that this server runs, which are in `server_tools` by name. `searches_by_force`: the request names
    file_search as the tool to use."""

    functions: tuple[Tool, ...]
    choice: ToolChoice
    search: ToolEntry | None
    searches_by_force: bool
    server_tools: dict[str, ServerTool]


def toolbox_of(request: ContextFields, offered: Offered) -> Toolbox:
    """Raises UnsupportedParameter for tools that are not served, InvalidValue for names twice."""
    functions = {name: tool.tool for name, tool in offered.tools.items()}
    search: ToolEntry | None = None
    for index, entry in enumerate(request.tools or ()):
        path = f"tools[{index}]"
        if entry.type == FILE_SEARCH:
            if search is not None:
                raise InvalidValue(f"{path}: file_search is given twice", param=path)
            if entry.vector_store_ids is None:
                raise MissingParameter(f"{path} needs `vector_store_ids`", param=f"{path}.vector_store_ids")
            search = entry
            continue
        if entry.type == MCP or entry.type in offered.tools:
            continue
        if entry.type != "function":
            raise UnsupportedParameter(
                f"{path} is of type {entry.type!r}; there is: {', '.join(TOOL_TYPES)}",
                param=f"{path}.type",
            )
        if entry.name is None:
            raise MissingParameter(f"the parameter '{path}.name' is required", param=f"{path}.name")
        if entry.name in functions:
            raise InvalidValue(f"the name {entry.name!r} is given twice", param=f"{path}.name")
        check_schema(entry.parameters, f"{path}.parameters")
        functions[entry.name] = Tool(
            name=entry.name,
            description=entry.description or "",
            parameters=entry.parameters or {},
            strict=bool(entry.strict),
        )
    tools = tuple(functions.values())
    choice, wants_search = _choice(request, tools, search, offered)
    if offered.tools and request.parallel_tool_calls is None:
        choice = msgspec.structs.replace(choice, parallel=False)  # small models call on and on
    by_force = wants_search and choice.mode == "none"
    return Toolbox(tools, choice, search if wants_search else None, by_force, offered.tools)


def _choice(
    request: ContextFields, tools: Sequence[Tool], search: ToolEntry | None, offered: Offered
) -> tuple[ToolChoice, bool]:
    """The choice among functions, and whether file_search may be used."""
    wanted = request.tool_choice
    if wanted is None or isinstance(wanted, str):
        if wanted == "required" and not tools:
            if search is None:
                raise InvalidValue("a tool call is required, but there are no tools", param="tool_choice")
            return ToolChoice(mode="auto"), True
        return _mode(request, wanted or "auto"), wanted != "none"
    if wanted.type == FILE_SEARCH:
        if search is None:
            raise InvalidValue("file_search is not among the tools", param="tool_choice.type")
        return ToolChoice(mode="none"), True
    if wanted.type == "function":
        if wanted.name is None:
            raise MissingParameter("the parameter 'tool_choice.name' is required", param="tool_choice.name")
        _require_known(wanted.name, tools, "tool_choice.name")
        return _mode(request, "required", (wanted.name,)), False
    if wanted.type == "allowed_tools":
        return _allowed(request, wanted, tools, search, offered)
    if names := _server_names(wanted, offered):
        return _mode(request, "required", names), False
    raise UnsupportedParameter(
        f"tool_choice.type is {wanted.type!r}; it may be function, allowed_tools, or one of `tools`",
        param="tool_choice.type",
    )


def _allowed(
    request: ContextFields,
    wanted: ToolChoiceEntry,
    tools: Sequence[Tool],
    search: ToolEntry | None,
    offered: Offered,
) -> tuple[ToolChoice, bool]:
    if wanted.tools is None:
        raise MissingParameter("the parameter 'tool_choice.tools' is required", param="tool_choice.tools")
    names, may_search = [], False
    for index, entry in enumerate(wanted.tools):
        path = f"tool_choice.tools[{index}]"
        if entry.type == FILE_SEARCH and search is not None:
            may_search = True
        elif entry.type == "function" and entry.name is not None:
            _require_known(entry.name, tools, f"{path}.name")
            names.append(entry.name)
        elif found := _server_names(entry, offered):
            names += found
        else:
            raise InvalidValue(f"{path} is none of the tools given", param=path)
    mode = wanted.mode or "auto"
    if not names:
        return ToolChoice(mode="none"), may_search
    return _mode(request, mode, tuple(names)), may_search


def _server_names(wanted: ToolChoiceEntry | AllowedTool, offered: Offered) -> tuple[str, ...]:
    """The tools of the server's that a choice names: a built-in one, or an MCP server's, or one of those."""
    if wanted.type != MCP:
        return (wanted.type,) if wanted.type in offered.tools else ()
    return tuple(
        name
        for name, tool in offered.tools.items()
        if tool.server == wanted.server_label and wanted.name in (None, name)
    )


def _mode(
    request: ContextFields, mode: Literal["none", "auto", "required"], names: tuple[str, ...] | None = None
) -> ToolChoice:
    """A forced answer is one call unless parallel calls are asked for; see `api.tools.tool_choice_of`."""
    parallel = request.parallel_tool_calls
    return ToolChoice(mode=mode, names=names, parallel=mode != "required" if parallel is None else parallel)


def _require_known(name: str, tools: Sequence[Tool], path: str) -> None:
    if all(tool.name != name for tool in tools):
        raise InvalidValue(f"{path} is {name!r}, which is none of the functions given", param=path)


def prompt_of(request: ContextFields, turns: Sequence[Message], toolbox: Toolbox) -> ChatPrompt:
    """`instructions` go before all that was said."""
    messages = tuple(turns)
    if request.instructions:
        messages = _instructed(request.instructions, messages)
    return ChatPrompt(
        messages=messages,
        tools=toolbox.functions,
        tool_choice=toolbox.choice,
        reasoning_effort=request.reasoning.effort if request.reasoning else None,
        template_options=(request.chat_template_kwargs or {}) if isinstance(request, CreateResponse) else {},
    )


def _instructed(instructions: str, messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Most templates take one system message, at the front."""
    if messages and messages[0].role == "system":
        first = Message(role="system", content=f"{instructions}\n\n{messages[0].content}")
        return (first, *messages[1:])
    return (Message(role="system", content=instructions), *messages)


def constraint_of(request: ContextFields) -> Constraint | None:
    format = request.text.format if request.text else None
    if format is None or format.type == "text":
        return None
    return JsonConstraint(schema=None if format.type == "json_object" else _schema(format))


def _schema(format: TextFormat) -> dict[str, object] | bool:
    if format.schema is None:
        raise MissingParameter("the parameter 'text.format.schema' is required", param="text.format.schema")
    return format.schema


def wants_logprobs(request: CreateResponse) -> bool:
    return bool(request.top_logprobs) or "message.output_text.logprobs" in (request.include or ())


def sampling_fields(request: CreateResponse) -> SamplingFields:
    """The parameters that chat has too, as chat has them."""
    return SamplingFields(
        model=request.model,
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=request.top_k,
        min_p=request.min_p,
        repeat_penalty=request.repeat_penalty,
        seed=request.seed,
    )


def sampling_of(request: CreateResponse, defaults: Generator) -> SamplingParams:
    fields = sampling_fields(request)
    top = (request.top_logprobs or DEFAULT_TOP_LOGPROBS) if wants_logprobs(request) else None
    return sampling_params(fields, defaults, max_tokens=request.max_output_tokens, top_logprobs=top)
