"""What /api answers: objects that end with their figures, and lines of JSON while they grow. Times are
nanoseconds."""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import msgspec
from msgspec import Struct

from appliance.api.generation import Answer, CallInProgress
from appliance.errors import HearthError
from appliance.records import Delta, Ended, Started, Timings, TokenLogprob, Usage

NANO = 1_000_000_000
DoneReason = Literal["stop", "length", "load", "unload"]
_encode = msgspec.json.Encoder().encode


class Logprob(Struct, kw_only=True, omit_defaults=True):
    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[Logprob] | None = None


class CalledFunction(Struct, kw_only=True):
    name: str
    arguments: dict[str, Any]


class CalledTool(Struct, kw_only=True):
    function: CalledFunction


class ReplyMessage(Struct, kw_only=True, omit_defaults=True):
    role: str
    content: str
    thinking: str | None = None
    tool_calls: list[CalledTool] | None = None


class Figures(Struct, kw_only=True, omit_defaults=True):
    """The last object of an answer has all of them."""

    model: str
    created_at: str
    done: bool
    done_reason: DoneReason | None = None
    total_duration: int | None = None
    load_duration: int | None = None
    prompt_eval_count: int | None = None
    prompt_eval_duration: int | None = None
    eval_count: int | None = None
    eval_duration: int | None = None
    logprobs: list[Logprob] | None = None
    warnings: list[str] | None = None


class ChatReply(Figures, kw_only=True, omit_defaults=True):
    message: ReplyMessage


class GenerateReply(Figures, kw_only=True, omit_defaults=True):
    response: str
    thinking: str | None = None


def created_at(seconds: float | None = None) -> str:
    moment = datetime.datetime.fromtimestamp(time.time() if seconds is None else seconds, datetime.UTC)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


class Shape:
    """How one request is answered: as chat, or as generate. `begun`: by time.perf_counter."""

    def __init__(self, model: str, *, is_chat: bool) -> None:
        self._model, self._is_chat = model, is_chat
        self._begun = time.perf_counter()

    def whole(self, answer: Answer, warnings: list[str]) -> Figures:
        choice = answer.choices[0]
        calls = [call for _, call in sorted(choice.calls.items())]
        reply = self.piece(choice.text, choice.reasoning, calls, choice.logprobs)
        self.finish(reply, choice.finish_reason, answer.usage, answer.timings)
        reply.warnings = warnings or None
        return reply

    def piece(
        self,
        text: str = "",
        reasoning: str = "",
        calls: Sequence[CallInProgress] = (),
        logprobs: Sequence[TokenLogprob] = (),
    ) -> ChatReply | GenerateReply:
        thinking = reasoning or None
        found = [_logprob(each) for each in logprobs] or None
        if not self._is_chat:
            return GenerateReply(
                model=self._model,
                created_at=created_at(),
                done=False,
                response=text,
                thinking=thinking,
                logprobs=found,
            )
        message = ReplyMessage(
            role="assistant",
            content=text,
            thinking=thinking,
            tool_calls=[_called(call) for call in calls] or None,
        )
        return ChatReply(
            model=self._model, created_at=created_at(), done=False, message=message, logprobs=found
        )

    def finish(self, reply: Figures, reason: str, usage: Usage, timings: Timings) -> None:
        reply.done = True
        reply.done_reason = "length" if reason == "length" else "stop"
        reply.total_duration = round((time.perf_counter() - self._begun) * NANO)
        reply.load_duration = round(timings.queued * NANO)
        reply.prompt_eval_count, reply.prompt_eval_duration = (
            usage.prompt_tokens,
            round(timings.prefill * NANO),
        )
        reply.eval_count, reply.eval_duration = usage.completion_tokens, round(timings.decode * NANO)

    def loaded(self, reason: DoneReason) -> Figures:
        """The answer to a request that says nothing: it loads the model, or unloads it."""
        reply = self.piece()
        reply.done, reply.done_reason = True, reason
        return reply


class Writer:
    """Lines of JSON. Calls are told when they are whole, as Ollama's clients read them."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._calls: dict[int, CallInProgress] = {}
        self._reason = "stop"

    def begin(self, started: Started) -> Iterable[bytes]:
        return ()

    def feed(self, delta: Delta) -> Iterator[bytes]:
        for piece in delta.tool_calls:
            self._calls.setdefault(piece.index, CallInProgress()).add(piece)
        if delta.finish_reason is not None:
            self._reason = delta.finish_reason
        if delta.text or delta.reasoning or delta.logprobs:
            yield _line(self._shape.piece(delta.text, delta.reasoning, (), delta.logprobs))

    def end(self, ended: Ended) -> Iterator[bytes]:
        if self._calls:
            yield _line(self._shape.piece(calls=[call for _, call in sorted(self._calls.items())]))
        last = self._shape.piece()
        self._shape.finish(last, self._reason, ended.usage, ended.timings)
        yield _line(last)

    def fail(self, error: HearthError) -> Iterable[bytes]:
        return [_encode({"error": error.message}) + b"\n"]


def _line(reply: Figures) -> bytes:
    return _encode(reply) + b"\n"


def _called(call: CallInProgress) -> CalledTool:
    try:
        arguments = json.loads(call.arguments or "{}")
    except ValueError:
        arguments = None
    if not isinstance(arguments, dict):
        arguments = {"malformed_arguments": call.arguments}
    return CalledTool(function=CalledFunction(name=call.name, arguments=arguments))


def _logprob(found: TokenLogprob) -> Logprob:
    return Logprob(
        token=found.raw.decode(errors="replace"),
        logprob=found.logprob,
        bytes=list(found.raw),
        top_logprobs=[_logprob(rival) for rival in found.top] or None,
    )
