"""The OpenAI wire as an upstream speaks it: a request's JSON body, a stream's chunks, a whole answer, an
error.

Lenient in what it ignores (unknown fields, nulls), strict in what it uses: an event of another shape is
garbage, for nobody can tell what text was lost with it. Knows no connection.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct

from appliance.records import (
    ChatPrompt,
    Constraint,
    Delta,
    FinishReason,
    GrammarConstraint,
    JsonConstraint,
    Message,
    RegexConstraint,
    TextPrompt,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)
from appliance.routing.failure import FailureKind, UpstreamFailure
from appliance.routing.request import RoutedRequest, continued

UNKNOWN_TOKEN = -1  # a logprob's token id, which this wire does not carry
MAX_CHOICES = 128
MAX_TOOL_CALLS = 128

# Sampling parameters of the API itself, and those that only some servers take.
_COMMON = ("temperature", "top_p", "presence_penalty", "frequency_penalty", "seed", "stop")
_OWN = frozenset(["top_k", "min_p", "repeat_penalty", "ignore_eos", "deterministic"])
_EXTRA: dict[str, dict[str, str]] = {
    "vllm": {
        "top_k": "top_k",
        "min_p": "min_p",
        "repeat_penalty": "repetition_penalty",
        "ignore_eos": "ignore_eos",
    },
    "llama-server": {
        "top_k": "top_k",
        "min_p": "min_p",
        "repeat_penalty": "repeat_penalty",
        "ignore_eos": "ignore_eos",
    },
    "hearth": {
        "top_k": "top_k",
        "min_p": "min_p",
        "repeat_penalty": "repeat_penalty",
        "ignore_eos": "ignore_eos",
        "deterministic": "deterministic",
    },
    "xinference": {"top_k": "top_k", "repeat_penalty": "repetition_penalty"},
}
_TEMPLATE_TYPES = frozenset(["vllm", "llama-server", "hearth"])
# How each type is told to go on with the last turn instead of beginning a new one.
_CONTINUE: dict[str, dict[str, bool]] = {
    "vllm": {"continue_final_message": True, "add_generation_prompt": False},
    "hearth": {"continue_final_message": True},
}


# Requests


def request_path(request: RoutedRequest) -> str:
    return "/completions" if isinstance(request.prompt, TextPrompt) else "/chat/completions"


def request_body(
    request: RoutedRequest, *, model: str, type: str, stream_usage: bool, partial: str = ""
) -> bytes:
    """The JSON body. With `partial` the answer goes on from there: as the last turn of a chat, as the
    prompt's end of a text.
    """
    body: dict[str, Any] = {"model": model, "stream": True}
    if stream_usage:
        body["stream_options"] = {"include_usage": True}
    match request.prompt:
        case ChatPrompt():
            prompt = continued(request.prompt, partial)
            body["messages"] = [_turn(message) for message in prompt.messages]
            if prompt.continues:
                body |= _CONTINUE.get(type, {})
            if prompt.reasoning_effort is not None:
                body["reasoning_effort"] = prompt.reasoning_effort
            if prompt.template_options and type in _TEMPLATE_TYPES:
                body["chat_template_kwargs"] = prompt.template_options
            _add_tools(body, prompt)
        case TextPrompt():
            body["prompt"] = request.prompt.text + partial
        case _:
            raise UpstreamFailure("refused", "token ids mean nothing to another service")
    if request.choices > 1:
        body["n"] = request.choices
    if request.constraint is not None:
        body |= _form(request.constraint, type)
    return msgspec.json.encode(body | _sampling(request, type))


def left_out(request: RoutedRequest, type: str) -> tuple[str, ...]:
    """A warning for every parameter that the client gave and that this type of platform does not take."""
    unknown = sorted((request.given & _OWN) - _EXTRA.get(type, {}).keys())
    prompt = request.prompt
    if isinstance(prompt, ChatPrompt) and prompt.template_options and type not in _TEMPLATE_TYPES:
        unknown.append("chat_template_kwargs")
    return tuple(f"{n} is not sent on: a platform of type {type} does not take it" for n in unknown)


def _sampling(request: RoutedRequest, type: str) -> dict[str, Any]:
    """The parameters that the client itself gave; others are left to the upstream."""
    params = request.sampling
    body: dict[str, Any] = {}
    if params.max_tokens is not None:
        is_newest = type == "openai" and isinstance(request.prompt, ChatPrompt)
        body["max_completion_tokens" if is_newest else "max_tokens"] = params.max_tokens
    extra = _EXTRA.get(type, {})
    for name in sorted(request.given):
        if name in _COMMON:
            body[name] = getattr(params, name)
        elif name in extra:
            body[extra[name]] = getattr(params, name)
    if params.top_logprobs is not None:
        if isinstance(request.prompt, ChatPrompt):
            body["logprobs"] = True
            body["top_logprobs"] = params.top_logprobs
        else:
            body["logprobs"] = params.top_logprobs
    return body


def _turn(message: Message) -> dict[str, Any]:
    content: Any = list(_parts(message)) if message.images else message.content
    turn: dict[str, Any] = {"role": message.role, "content": content}
    if message.name is not None and message.role != "tool":
        turn["name"] = message.name
    if message.tool_call_id is not None:
        turn["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        turn["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in message.tool_calls
        ]
    return turn


def _parts(message: Message) -> Iterator[dict[str, Any]]:
    """Texts and pictures in the order that they were given in."""
    begins = 0
    for image in message.images:
        if image.after > begins:
            yield {"type": "text", "text": message.content[begins : image.after]}
            begins = image.after
        detail = {"detail": image.detail} if image.detail else {}
        yield {"type": "image_url", "image_url": {"url": image.url, **detail}}
    if begins < len(message.content):
        yield {"type": "text", "text": message.content[begins:]}


def _add_tools(body: dict[str, Any], prompt: ChatPrompt) -> None:
    choice = prompt.tool_choice
    tools = [tool for tool in prompt.tools if choice.names is None or tool.name in choice.names]
    if not tools:
        return
    body["tools"] = [
        {
            "type": "function",
            "function": {
                "name": tool.name,
                "description": tool.description,
                "parameters": tool.parameters,
                **({"strict": True} if tool.strict else {}),
            },
        }
        for tool in tools
    ]
    body["tool_choice"] = choice.mode
    if not choice.parallel:
        body["parallel_tool_calls"] = False


def _form(constraint: Constraint, type: str) -> dict[str, Any]:
    """How `type` is told of an answer's form. Raises UpstreamFailure where it cannot be: never left out."""
    match constraint, type:
        case JsonConstraint(), _:
            return {"response_format": _response_format(constraint)}
        case RegexConstraint(pattern=pattern), "hearth":
            return {"regex": pattern}
        case RegexConstraint(pattern=pattern), "vllm":
            return {"structured_outputs": {"regex": pattern}}
        case GrammarConstraint(text=text), "hearth":
            return {"grammar": text}
        case GrammarConstraint(text=text), "vllm":
            return {"structured_outputs": {"grammar": text}}
        case GrammarConstraint(text=text, syntax="gbnf"), "llama-server":
            return {"grammar": text}
    raise UpstreamFailure("refused", f"a platform of type {type} does not take this constraint")


def _response_format(constraint: JsonConstraint) -> dict[str, Any]:
    if constraint.schema is None or isinstance(constraint.schema, bool):
        return {"type": "json_object"}
    schema = {"name": "answer", "schema": constraint.schema, "strict": True}
    return {"type": "json_schema", "json_schema": schema}


# Answers


class _Function(Struct):
    name: str | None = None
    arguments: str | None = None


class _Call(Struct):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class _Said(Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[_Call] | None = None


class _Logprob(Struct):
    token: str
    logprob: float
    bytes: list[int] | None = None
    top_logprobs: list[_Logprob] | None = None


class _Logprobs(Struct):
    content: list[_Logprob] | None = None


class _Choice(Struct):
    index: int = 0
    delta: _Said | None = None
    message: _Said | None = None
    text: str | None = None
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class _Details(Struct):
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


class _Usage(Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None


class _Chunk(Struct):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: Any = None


class _Models(Struct):
    class Item(Struct):
        id: str

    data: list[Item]


_decode_chunk = msgspec.json.Decoder(_Chunk).decode
_decode_models = msgspec.json.Decoder(_Models).decode
_FINISH: dict[str, FinishReason] = {
    "length": "length",
    "max_tokens": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}


def read_event(event: bytes, id: int) -> tuple[list[Delta], Usage | None]:
    """One event's deltas, empty ones left out, and the usage if it carries that. Raises UpstreamFailure."""
    try:
        chunk = _decode_chunk(event)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UpstreamFailure("garbage", f"an event is no chunk of an answer: {str(error)[:120]}") from None
    if chunk.error is not None:
        raise error_failure(chunk.error, status=200)
    if chunk.choices is None and chunk.usage is None:
        raise UpstreamFailure("garbage", "an event has neither choices nor usage")
    deltas = [delta for each in chunk.choices or () if (delta := _delta(each, id)) is not None]
    return deltas, _usage(chunk.usage)


def _delta(choice: _Choice, id: int) -> Delta | None:
    if not 0 <= choice.index < MAX_CHOICES:
        raise UpstreamFailure("garbage", f"a choice has the index {choice.index}")
    said = choice.delta or choice.message or _Said()
    text = choice.text or said.content or said.refusal or ""
    reasoning = said.reasoning_content or said.reasoning or ""
    calls = tuple(_call(call, place) for place, call in enumerate(said.tool_calls or ()))
    finish = None if choice.finish_reason is None else _FINISH.get(choice.finish_reason, "stop")
    if not (text or reasoning or calls or finish):
        return None
    logprobs = (choice.logprobs.content if choice.logprobs else None) or ()
    return Delta(
        id=id,
        choice=choice.index,
        text=text,
        tokens=len(logprobs) or int(bool(text or reasoning or calls)),
        reasoning=reasoning,
        tool_calls=calls,
        logprobs=tuple(map(_logprob, logprobs)),
        finish_reason=finish,
    )


def _call(call: _Call, place: int) -> ToolCallDelta:
    index = place if call.index is None else call.index
    if not 0 <= index < MAX_TOOL_CALLS:
        raise UpstreamFailure("garbage", f"a tool call has the index {index}")
    function = call.function or _Function()
    return ToolCallDelta(
        index=index, id=call.id or None, name=function.name or None, arguments=function.arguments or ""
    )


def _logprob(found: _Logprob) -> TokenLogprob:
    given = found.bytes
    if given is not None and all(0 <= byte <= 255 for byte in given):
        raw = bytes(given)
    else:
        raw = found.token.encode("utf-8", "replace")
    return TokenLogprob(
        token=UNKNOWN_TOKEN,
        raw=raw,
        logprob=found.logprob,
        top=tuple(map(_logprob, found.top_logprobs or ())),
    )


def _usage(found: _Usage | None) -> Usage | None:
    if found is None or found.prompt_tokens is None or found.completion_tokens is None:
        return None
    cached = found.prompt_tokens_details.cached_tokens if found.prompt_tokens_details else None
    thought = found.completion_tokens_details.reasoning_tokens if found.completion_tokens_details else None
    if min(found.prompt_tokens, found.completion_tokens, cached or 0, thought or 0) < 0:
        raise UpstreamFailure("garbage", "an answer counts less than no tokens")
    return Usage(
        prompt_tokens=found.prompt_tokens,
        completion_tokens=found.completion_tokens,
        cached_tokens=cached or 0,
        reasoning_tokens=thought or 0,
    )


def read_models(body: bytes) -> list[str]:
    """The names in an answer of /models. Raises UpstreamFailure."""
    try:
        return [item.id for item in _decode_models(body).data]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UpstreamFailure("garbage", f"/models answers something else: {str(error)[:120]}") from None


# Errors


def status_failure(status: int, body: bytes, retry_after: float | None) -> UpstreamFailure:
    """What an answer with another status than 200 means."""
    try:
        decoded: Any = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        decoded = None
    error = decoded.get("error", decoded) if isinstance(decoded, dict) else None
    return error_failure(error, status=status, retry_after=retry_after)


def error_failure(error: Any, *, status: int, retry_after: float | None = None) -> UpstreamFailure:
    """`error` is whatever the service sent: an object, a text, anything."""
    fields = error if isinstance(error, dict) else {"message": error if isinstance(error, str) else ""}
    code = fields.get("code") or fields.get("type") or ""
    detail = f"status {status}: {str(fields.get('message') or '')[:300]}".rstrip(": ")
    return UpstreamFailure(_kind(status, str(code)), detail, status=status, retry_after=retry_after)


def _kind(status: int, code: str) -> FailureKind:
    if status == 402 or code in ("insufficient_quota", "billing_hard_limit_reached"):
        return "over_quota"
    if status == 429 or code in ("rate_limit_exceeded", "429"):
        return "rate_limited"
    if status in (401, 403):
        return "rejected_key"
    if status in (408, 425) or status >= 500 or status == 200:
        return "server_error"
    return "refused"
