"""What /v1/messages answers: a message of blocks, or the events of one that grows."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import msgspec
from msgspec import Struct

from appliance.api.errors import anthropic_error
from appliance.api.generation import Answer
from appliance.api.sse import named_event
from appliance.errors import HearthError
from appliance.records import Delta, Ended, FinishReason, Started, ToolCallDelta
from appliance.records import Usage as UsageRecord

SIGNATURE = "hearth"  # thinking is not signed here; clients want to send something back

StopReason = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use", "refusal"]
_encode = msgspec.json.Encoder().encode


class Usage(Struct, kw_only=True):
    """`input_tokens` counts what was computed; what was found in the cache stands beside it."""

    input_tokens: int
    output_tokens: int
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int = 0


class MessageBody(Struct, kw_only=True):
    """`content` holds blocks: text, thinking, tool_use. `warnings` is ours."""

    id: str
    type: Literal["message"] = "message"
    role: Literal["assistant"] = "assistant"
    model: str
    content: list[dict[str, Any]]
    stop_reason: StopReason | None = None
    stop_sequence: str | None = None
    usage: Usage
    warnings: list[str] = []


class TokenCount(Struct, kw_only=True):
    input_tokens: int


def new_message_id() -> str:
    return f"msg_{secrets.token_hex(12)}"


def message_body(model: str, answer: Answer, warnings: list[str]) -> MessageBody:
    choice = answer.choices[0]
    content: list[dict[str, Any]] = []
    if choice.reasoning:
        content.append({"type": "thinking", "thinking": choice.reasoning, "signature": SIGNATURE})
    if choice.text or not choice.calls:
        content.append({"type": "text", "text": choice.text})
    for _, call in sorted(choice.calls.items()):
        content.append(
            {"type": "tool_use", "id": call.id, "name": call.name, "input": _input(call.arguments)}
        )
    return MessageBody(
        id=new_message_id(),
        model=model,
        content=content,
        stop_reason=_stop_reason(choice.finish_reason, choice.stop),
        stop_sequence=choice.stop,
        usage=_usage(answer.usage),
        warnings=warnings,
    )


def _input(arguments: str) -> dict[str, Any]:
    """A call's arguments; what a model wrote wrongly is handed on as it is, under a name of its own."""
    try:
        value = json.loads(arguments or "{}")
    except ValueError:
        value = None
    return value if isinstance(value, dict) else {"malformed_arguments": arguments}


def _usage(usage: UsageRecord) -> Usage:
    return Usage(
        input_tokens=usage.prompt_tokens - usage.cached_tokens,
        output_tokens=usage.completion_tokens,
        cache_read_input_tokens=usage.cached_tokens,
    )


def _stop_reason(reason: FinishReason, stop: str | None) -> StopReason:
    if reason == "stop":
        return "end_turn" if stop is None else "stop_sequence"
    reasons: dict[FinishReason, StopReason] = {
        "length": "max_tokens",
        "tool_calls": "tool_use",
        "content_filter": "refusal",
    }
    return reasons[reason]


class Writer:
    """The events of one message, in Anthropic's order: blocks one after another, each opened and closed."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._index = -1
        self._kind = ""
        self._call = -1
        self._reason: FinishReason = "stop"
        self._stop: str | None = None

    def begin(self, started: Started) -> Iterator[bytes]:
        usage = Usage(
            input_tokens=started.prompt_tokens - started.cached_tokens,
            output_tokens=0,
            cache_read_input_tokens=started.cached_tokens,
        )
        body = MessageBody(id=new_message_id(), model=self._model, content=[], usage=usage)
        yield _event("message_start", message=body)

    def feed(self, delta: Delta) -> Iterator[bytes]:
        if delta.reasoning:
            yield from self._block("thinking", {"type": "thinking", "thinking": "", "signature": ""})
            yield self._delta({"type": "thinking_delta", "thinking": delta.reasoning})
        if delta.text:
            yield from self._block("text", {"type": "text", "text": ""})
            yield self._delta({"type": "text_delta", "text": delta.text})
        for piece in delta.tool_calls:
            yield from self._called(piece)
        if delta.finish_reason is not None:
            self._reason, self._stop = delta.finish_reason, delta.stop

    def end(self, ended: Ended) -> Iterator[bytes]:
        if self._index < 0:
            yield from self._block("text", {"type": "text", "text": ""})
        yield from self._close()
        ending = {"stop_reason": _stop_reason(self._reason, self._stop), "stop_sequence": self._stop}
        yield _event("message_delta", delta=ending, usage=_usage(ended.usage))
        yield _event("message_stop")

    def fail(self, error: HearthError) -> Iterable[bytes]:
        return [named_event("error", _encode(anthropic_error(error)))]

    def _called(self, piece: ToolCallDelta) -> Iterator[bytes]:
        if self._kind != "tool_use" or piece.index != self._call:
            yield from self._close()
            self._call = piece.index
            block: dict[str, Any] = {"type": "tool_use", "id": piece.id, "name": piece.name, "input": {}}
            yield from self._block("tool_use", block)
        if piece.arguments:
            yield self._delta({"type": "input_json_delta", "partial_json": piece.arguments})

    def _block(self, kind: str, opening: dict[str, Any]) -> Iterator[bytes]:
        """Open a block of the kind, unless one is open."""
        if self._kind == kind:
            return
        yield from self._close()
        self._index += 1
        self._kind = kind
        yield _event("content_block_start", index=self._index, content_block=opening)

    def _close(self) -> Iterator[bytes]:
        if not self._kind:
            return
        if self._kind == "thinking":
            yield self._delta({"type": "signature_delta", "signature": SIGNATURE})
        self._kind = ""
        yield _event("content_block_stop", index=self._index)

    def _delta(self, delta: dict[str, str]) -> bytes:
        return _event("content_block_delta", index=self._index, delta=delta)


def _event(kind: str, **fields: Any) -> bytes:
    return named_event(kind, _encode({"type": kind, **fields}))
