"""A request of /v1/messages to what a generator is asked. Asks nobody."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from appliance.api.anthropic.schemas import (
    BLOCK_RULES,
    MESSAGE_RULES,
    PROMPT_RULES,
    THINKING_RULES,
    TOOL_RULES,
    Block,
    CreateMessage,
    PromptFields,
    Turn,
)
from appliance.api.generation import sampling_params
from appliance.api.rules import apply
from appliance.api.schemas import SamplingFields
from appliance.api.tools import check_schema
from appliance.api.validate import convert_at
from appliance.config.schema import Generator
from appliance.errors import InvalidValue, MissingParameter, UnsupportedParameter
from appliance.records import (
    ChatPrompt,
    Constraint,
    JsonConstraint,
    Message,
    SamplingParams,
    Tool,
    ToolCall,
    ToolChoice,
)

READ = ("text", "thinking", "redacted_thinking", "tool_use", "tool_result")


def check(request: PromptFields) -> list[str]:
    """The warnings for what is ignored. Raises UnsupportedParameter for what is refused."""
    rules = MESSAGE_RULES if isinstance(request, CreateMessage) else PROMPT_RULES
    warnings = list(apply(request, rules))
    for index, tool in enumerate(request.tools or ()):
        warnings += apply(tool, TOOL_RULES, f"tools[{index}].")
    if request.thinking is not None:
        warnings += apply(request.thinking, THINKING_RULES, "thinking.")
    if isinstance(request.system, list):
        warnings += _check_blocks(request.system, "system")
    for index, turn in enumerate(request.messages):
        if not isinstance(turn.content, str):
            warnings += _check_blocks(turn.content, f"messages[{index}].content")
    return warnings


def _check_blocks(blocks: Sequence[Block], path: str) -> Iterator[str]:
    for index, block in enumerate(blocks):
        if block.type in READ:
            yield from apply(block, BLOCK_RULES, f"{path}[{index}].")


def prompt_of(request: PromptFields) -> ChatPrompt:
    """Raises UnsupportedParameter, MissingParameter or InvalidValue naming what is at fault."""
    messages: list[Message] = []
    if request.system:
        messages.append(Message(role="system", content=_text(request.system, "system")))
    names: dict[str, str] = {}
    for index, turn in enumerate(request.messages):
        messages += _messages(turn, f"messages[{index}]", names)
    tools = _tools(request)
    return ChatPrompt(
        messages=tuple(messages),
        tools=tools,
        tool_choice=_choice(request, tools),
        reasoning_effort=_effort(request),
    )


def _messages(turn: Turn, path: str, names: dict[str, str]) -> list[Message]:
    """A turn as messages: results of calls first, each by itself, then what was said."""
    if isinstance(turn.content, str):
        return [Message(role=turn.role, content=turn.content)]
    text, reasoning = "", ""
    calls: list[ToolCall] = []
    results: list[Message] = []
    for index, block in enumerate(turn.content):
        where = f"{path}.content[{index}]"
        if block.type == "text":
            text += _required(block.text, f"{where}.text")
        elif block.type == "thinking":
            reasoning += _required(block.thinking, f"{where}.thinking")
        elif block.type == "tool_use":
            id, name = _required(block.id, f"{where}.id"), _required(block.name, f"{where}.name")
            names[id] = name
            arguments = json.dumps(block.input or {}, ensure_ascii=False)
            calls.append(ToolCall(id=id, name=name, arguments=arguments))
        elif block.type == "tool_result":
            results.append(_result(block, where, names))
        elif block.type != "redacted_thinking":  # which nobody here can read
            raise UnsupportedParameter(
                f"content of type {block.type!r} is not served: the local models read text only",
                param=f"{where}.type",
            )
    if turn.role == "assistant":
        return [Message(role="assistant", content=text, reasoning=reasoning, tool_calls=tuple(calls))]
    if calls or reasoning:
        raise InvalidValue(f"{path}: only the assistant thinks and calls tools", param=path)
    return [*results, *([Message(role=turn.role, content=text)] if text or not results else [])]


def _result(block: Block, path: str, names: dict[str, str]) -> Message:
    id = _required(block.tool_use_id, f"{path}.tool_use_id")
    if id not in names:
        raise InvalidValue(f"{path} answers the call {id!r}, which is not there", param=f"{path}.tool_use_id")
    content: Any = block.content or ""
    if not isinstance(content, str):
        blocks: list[Block] = convert_at(content, list[Block], f"{path}.content")
        list(_check_blocks(blocks, f"{path}.content"))
        content = _text(blocks, f"{path}.content")
    if block.is_error:
        content = f"Error: {content}"
    return Message(role="tool", content=content, tool_call_id=id, name=names[id])


def _text(content: str | Sequence[Block], path: str) -> str:
    if isinstance(content, str):
        return content
    for index, block in enumerate(content):
        if block.type != "text":
            raise UnsupportedParameter(
                f"content of type {block.type!r} is not served here", param=f"{path}[{index}].type"
            )
    return "".join(_required(block.text, f"{path}[{n}].text") for n, block in enumerate(content))


def _tools(request: PromptFields) -> tuple[Tool, ...]:
    tools: dict[str, Tool] = {}
    for index, entry in enumerate(request.tools or ()):
        path = f"tools[{index}]"
        if entry.type not in (None, "custom"):
            raise UnsupportedParameter(
                f"{path} is of type {entry.type!r}, which runs on Anthropic's servers; there is: custom",
                param=f"{path}.type",
            )
        schema = _required(entry.input_schema, f"{path}.input_schema")
        if entry.name in tools:
            raise InvalidValue(f"the name {entry.name!r} is given twice", param=f"{path}.name")
        check_schema(schema, f"{path}.input_schema")
        tools[entry.name] = Tool(
            name=entry.name,
            description=entry.description or "",
            parameters=schema,
            strict=bool(entry.strict),
        )
    return tuple(tools.values())


def _choice(request: PromptFields, tools: tuple[Tool, ...]) -> ToolChoice:
    wanted = request.tool_choice
    if wanted is None:
        return ToolChoice()
    if wanted.type == "none":
        return ToolChoice(mode="none")
    parallel = not wanted.disable_parallel_tool_use
    if wanted.type == "auto":
        return ToolChoice(mode="auto", parallel=parallel)
    if not tools:
        raise InvalidValue("a tool call is required, but there are no tools", param="tool_choice")
    # A small model that must call does not know when to stop: one call, unless several are asked for.
    parallel = wanted.disable_parallel_tool_use is False
    if wanted.type == "any":
        return ToolChoice(mode="required", parallel=parallel)
    name = _required(wanted.name, "tool_choice.name")
    if all(tool.name != name for tool in tools):
        raise InvalidValue(
            f"tool_choice.name is {name!r}, which is none of the tools", param="tool_choice.name"
        )
    return ToolChoice(mode="required", names=(name,), parallel=parallel)


def _effort(request: PromptFields) -> str | None:
    """How much the model should think, in the words of chat's `reasoning_effort`."""
    if request.thinking is not None and request.thinking.type == "disabled":
        return "none"
    if request.output_config is not None and request.output_config.effort is not None:
        return request.output_config.effort
    return "medium" if request.thinking is not None and request.thinking.type == "enabled" else None


def constraint_of(request: PromptFields) -> Constraint | None:
    format = request.output_config.format if request.output_config else None
    return None if format is None else JsonConstraint(schema=format.schema)


def sampling_fields(request: CreateMessage) -> SamplingFields:
    """The parameters that chat has too, as chat has them."""
    fields = SamplingFields(
        model=request.model,
        temperature=request.temperature,
        top_p=request.top_p or None,
        top_k=request.top_k,
    )
    return msgspec.structs.replace(fields, stop=request.stop_sequences) if request.stop_sequences else fields


def sampling_of(request: CreateMessage, defaults: Generator) -> SamplingParams:
    return sampling_params(
        sampling_fields(request), defaults, max_tokens=request.max_tokens, top_logprobs=None
    )


def _required(value: Any, path: str) -> Any:
    if value is None:
        raise MissingParameter(f"the parameter {path!r} is required", param=path)
    return value
