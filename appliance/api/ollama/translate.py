"""Requests of /api to what a generator is asked. Asks nobody."""

from __future__ import annotations

import json

from appliance.api.generation import sampling_params
from appliance.api.ollama.schemas import (
    GENERATE_RULES,
    MESSAGE_RULES,
    OPTION_RULES,
    ChatMessage,
    ChatRequest,
    GenerateRequest,
    GeneratingFields,
    Options,
)
from appliance.api.rules import apply
from appliance.api.schemas import SamplingFields
from appliance.api.tools import check_schema
from appliance.config.schema import Generator
from appliance.errors import InvalidValue
from appliance.records import (
    ChatPrompt,
    Constraint,
    JsonConstraint,
    Message,
    SamplingParams,
    TextPrompt,
    Tool,
    ToolCall,
    ToolChoice,
)

DEFAULT_TAG = ":latest"


def model_of(name: str) -> str:
    """The model's name here; Ollama's clients write the default tag behind it."""
    return name.removesuffix(DEFAULT_TAG)


def check(request: GeneratingFields) -> list[str]:
    """The warnings for what is ignored. Raises UnsupportedParameter for what is refused."""
    warnings = list(apply(request.options, OPTION_RULES, "options.")) if request.options else []
    if isinstance(request, GenerateRequest):
        warnings += apply(request, GENERATE_RULES)
    if isinstance(request, ChatRequest):
        for index, message in enumerate(request.messages):
            warnings += apply(message, MESSAGE_RULES, f"messages[{index}].")
    if request.top_logprobs and not request.logprobs:
        raise InvalidValue("top_logprobs needs `logprobs: true`", param="top_logprobs")
    return warnings


def chat_prompt(request: ChatRequest) -> ChatPrompt:
    """Raises InvalidValue for a tool's result without a call, and for tools that cannot be."""
    messages: list[Message] = []
    waiting: list[ToolCall] = []  # calls that have no result yet: Ollama's have no ids
    for index, message in enumerate(request.messages):
        path = f"messages[{index}]"
        calls = tuple(
            ToolCall(
                id=f"call_{index}_{n}",
                name=call.function.name,
                arguments=json.dumps(call.function.arguments, ensure_ascii=False),
            )
            for n, call in enumerate(message.tool_calls or ())
        )
        if calls and message.role != "assistant":
            raise InvalidValue(f"{path}: only the assistant calls tools", param=f"{path}.tool_calls")
        waiting += calls
        call = _answered(message, waiting, path) if message.role == "tool" else None
        messages.append(
            Message(
                role=message.role,
                content=message.content or "",
                reasoning=message.thinking or "",
                tool_calls=calls,
                tool_call_id=call.id if call else None,
                name=call.name if call else None,
            )
        )
    return ChatPrompt(
        messages=tuple(messages),
        tools=_tools(request),
        tool_choice=ToolChoice(),
        reasoning_effort=_effort(request),
    )


def _answered(message: ChatMessage, waiting: list[ToolCall], path: str) -> ToolCall:
    """The call that a tool's result is for: the first of that name that has none."""
    fitting = [call for call in waiting if message.tool_name in (None, call.name)]
    if not fitting:
        raise InvalidValue(f"{path} answers a call that is not there", param=path)
    waiting.remove(fitting[0])
    return fitting[0]


def _tools(request: ChatRequest) -> tuple[Tool, ...]:
    tools: dict[str, Tool] = {}
    for index, entry in enumerate(request.tools or ()):
        path, function = f"tools[{index}].function", entry.function
        if function.name in tools:
            raise InvalidValue(f"the name {function.name!r} is given twice", param=f"{path}.name")
        check_schema(function.parameters, f"{path}.parameters")
        tools[function.name] = Tool(
            name=function.name,
            description=function.description or "",
            parameters=function.parameters or {},
            strict=bool(function.strict),
        )
    return tuple(tools.values())


def text_prompt(request: GenerateRequest) -> ChatPrompt | TextPrompt:
    """`raw`: the text as it stands; else as the one message of a conversation."""
    if request.raw:
        return TextPrompt(text=request.prompt)
    said = [Message(role="user", content=request.prompt)]
    if request.system:
        said.insert(0, Message(role="system", content=request.system))
    return ChatPrompt(messages=tuple(said), reasoning_effort=_effort(request))


def _effort(request: GeneratingFields) -> str | None:
    if isinstance(request.think, bool):
        return "medium" if request.think else "none"
    return request.think


def constraint_of(request: GeneratingFields) -> Constraint | None:
    """`format` is "json", or a schema. Raises InvalidValue for another word."""
    if request.format is None or request.format == "":
        return None
    if isinstance(request.format, str):
        if request.format != "json":
            raise InvalidValue(
                f"format is {request.format[:40]!r}; it may be json, or a schema", param="format"
            )
        return JsonConstraint(schema=None)
    return JsonConstraint(schema=request.format)


def sampling_fields(request: GeneratingFields) -> SamplingFields:
    """The parameters that chat has too, as chat has them."""
    options = request.options or Options()
    limit = options.num_predict
    return SamplingFields(
        model=model_of(request.model),
        max_tokens=limit if limit is not None and limit > 0 else None,
        temperature=options.temperature,
        top_k=None if options.top_k is None else max(0, options.top_k),
        top_p=options.top_p or None,
        min_p=options.min_p,
        seed=options.seed,
        stop=options.stop,
        repeat_penalty=options.repeat_penalty,
        presence_penalty=options.presence_penalty,
        frequency_penalty=options.frequency_penalty,
        keep_alive=request.keep_alive,
    )


def sampling_of(request: GeneratingFields, defaults: Generator) -> SamplingParams:
    fields = sampling_fields(request)
    top = (request.top_logprobs or 0) if request.logprobs else None
    return sampling_params(fields, defaults, max_tokens=fields.max_tokens, top_logprobs=top)
