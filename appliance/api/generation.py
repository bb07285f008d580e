"""What chat and text completions share: sampling parameters from a request, and a generation's events turned
into a whole answer or a stream. The two shapes of answer come from `chat` and `completions`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from appliance.api.answer import json_answer, route_headers
from appliance.api.context import runtime_of
from appliance.api.errors import error_body
from appliance.api.opening import Generation
from appliance.api.replies import TimingsBody
from appliance.api.schemas import SamplingFields
from appliance.api.sse import DONE, EventStream, Heartbeat, data_line, unless_client_leaves
from appliance.api.waiting import comment, until_decided
from appliance.config.schema import Generator
from appliance.errors import HearthError, InternalError
from appliance.records import (
    Citation,
    Delta,
    Ended,
    FinishReason,
    SamplingParams,
    Started,
    Timings,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)
from appliance.residency import keep_alive
from appliance.routing.request import Events, Route

Result = TypeVar("Result")
Number = TypeVar("Number", int, float)


@dataclass
class CallInProgress:
    """A tool call, as it grows."""

    id: str = ""
    name: str = ""
    arguments: str = ""

    def add(self, piece: ToolCallDelta) -> None:
        self.id = piece.id or self.id
        self.name = piece.name or self.name
        self.arguments += piece.arguments


@dataclass
class Choice:
    """One choice's answer, as it grows."""

    text: str = ""
    reasoning: str = ""
    calls: dict[int, CallInProgress] = field(default_factory=dict)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    citations: list[Citation] = field(default_factory=list)
    finish_reason: FinishReason = "stop"
    stop: str | None = None

    def add(self, delta: Delta) -> None:
        self.text += delta.text
        self.reasoning += delta.reasoning
        for piece in delta.tool_calls:
            self.calls.setdefault(piece.index, CallInProgress()).add(piece)
        self.logprobs.extend(delta.logprobs)
        self.citations.extend(delta.citations)
        self.finish_reason = delta.finish_reason or self.finish_reason
        self.stop = delta.stop or self.stop


@dataclass
class Answer:
    """A finished generation of one or several choices."""

    choices: list[Choice]
    usage: Usage
    timings: Timings
    warnings: list[str]
    routes: list[Route]  # one per prompt
    fingerprint: str | None = None


class Shape(Protocol):
    """How one surface writes answers. A shape belongs to one request and knows its id and model.

    `fingerprint` is set before a stream's first chunk.
    """

    fingerprint: str | None

    def whole(self, answer: Answer) -> msgspec.Struct: ...

    def opening(self, choice: int) -> msgspec.Struct | None:
        """What a stream sends before a choice's first text."""
        ...

    def chunk(self, delta: Delta) -> msgspec.Struct: ...

    def closing(self, usage: Usage, timings: Timings, route: Route) -> msgspec.Struct:
        """The chunk without choices that carries the usage."""
        ...


def sampling_params(
    request: SamplingFields, defaults: Generator, *, max_tokens: int | None, top_logprobs: int | None
) -> SamplingParams:
    """The request's parameters over the server's defaults."""
    stop = (request.stop,) if isinstance(request.stop, str) else tuple(request.stop or ())
    return SamplingParams(
        max_tokens=max_tokens,
        temperature=_given(request.temperature, defaults.temperature),
        top_p=_given(request.top_p, defaults.top_p),
        top_k=_given(request.top_k, defaults.top_k),
        min_p=_given(request.min_p, defaults.min_p),
        presence_penalty=request.presence_penalty or 0.0,
        frequency_penalty=request.frequency_penalty or 0.0,
        repeat_penalty=_given(request.repeat_penalty, 1.0),
        seed=request.seed,
        logit_bias={int(token): bias for token, bias in (request.logit_bias or {}).items()},
        stop=stop,
        top_logprobs=top_logprobs,
        ignore_eos=bool(request.ignore_eos),
        deterministic=bool(request.deterministic),
    )


def keep_alive_of(request: SamplingFields) -> float | None:
    """Seconds; None when the request does not say. Raises InvalidValue for what is no duration."""
    return None if request.keep_alive is None else keep_alive.parse(request.keep_alive)


def _given(value: Number | None, default: Number) -> Number:
    return default if value is None else value


async def answer_generation(
    http: Request,
    request: SamplingFields,
    generations: Sequence[Generation],
    shape: Shape,
    warnings: list[str],
) -> Response:
    """Run the generations of one request and answer it, whole or as a stream.

    Nothing is sent before every generation has somebody who answers, so a refusal still gets its status.
    """
    events = [each.events for each in generations]
    if request.stream:
        return await _stream(http, request, generations, shape, warnings)
    answers = await unless_client_leaves(http, _all_of(events, collect))
    for answer, generation in zip(answers, generations, strict=True):
        answer.routes.append(generation.route())
    whole = _combined(answers, warnings)
    return json_answer(shape.whole(whole), whole.routes, whole.warnings)


async def _stream(
    http: Request,
    request: SamplingFields,
    generations: Sequence[Generation],
    shape: Shape,
    warnings: list[str],
) -> EventStream:
    """The headers go out when the answer begins; or when it is accepted and begins later, and then a warning
    that came too late for them is in the first chunk."""
    beginning = asyncio.ensure_future(_all_of([each.events for each in generations], started_of))
    waitings = [each.waiting for each in generations]
    try:
        await unless_client_leaves(http, until_decided(beginning, waitings))
    except BaseException:
        await _abandon(beginning)
        raise
    if beginning.done():
        started = beginning.result()
        warnings = warnings + _warnings_of(started)
        shape.fingerprint = started[0].fingerprint or None
    headers = route_headers([each.route() for each in generations], warnings)
    seconds = runtime_of(http).settings.limits.heartbeat
    heartbeat = Heartbeat(seconds, lambda: comment(waitings)) if seconds else None
    late = None if beginning.done() else beginning
    return EventStream(_Lines(request, generations, shape, late).produce(), headers, heartbeat)


def _warnings_of(started: Sequence[Started]) -> list[str]:
    return [warning for each in started for warning in each.warnings]


async def _abandon(beginning: asyncio.Future[list[Started]]) -> None:
    beginning.cancel()
    await asyncio.gather(beginning, return_exceptions=True)


async def _all_of(
    events: Sequence[Events], work: Callable[[Events], Coroutine[None, None, Result]]
) -> list[Result]:
    """`work` on every generation at the same time; when one fails or the caller leaves, all are closed."""
    tasks = [asyncio.ensure_future(work(each)) for each in events]
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await _close_all(events)
        raise


async def _close_all(events: Sequence[Events]) -> None:
    for each in events:
        await each.aclose()


async def started_of(events: Events) -> Started:
    first = await anext(events)
    if not isinstance(first, Started):
        raise InternalError("a generation began with something else than Started")
    return first


def _combined(answers: Sequence[Answer], warnings: list[str]) -> Answer:
    return Answer(
        choices=[choice for answer in answers for choice in answer.choices],
        usage=_sum_usage([answer.usage for answer in answers]),
        timings=_sum_timings([answer.timings for answer in answers]),
        warnings=warnings + [warning for answer in answers for warning in answer.warnings],
        routes=[route for answer in answers for route in answer.routes],
        fingerprint=answers[0].fingerprint,
    )


async def collect(events: Events) -> Answer:
    choices: dict[int, Choice] = {}
    warnings: list[str] = []
    fingerprint = ""
    async for event in events:
        match event:
            case Started():
                warnings.extend(event.warnings)
                fingerprint = event.fingerprint
            case list():
                for delta in event:
                    choices.setdefault(delta.choice, Choice()).add(delta)
                    warnings.extend(delta.warnings)
            case Ended(usage=usage, timings=timings):
                ordered = [choice for _, choice in sorted(choices.items())]
                return Answer(ordered, usage, timings, warnings, [], fingerprint or None)
    raise InternalError("a generation ended without its end")


class _Lines:
    """The lines of one stream, those that are ready together in one piece. Prompts are streamed in their
    order; their choices are numbered through."""

    def __init__(
        self,
        request: SamplingFields,
        generations: Sequence[Generation],
        shape: Shape,
        beginning: asyncio.Future[list[Started]] | None,
    ) -> None:
        self._request, self._generations, self._shape = request, generations, shape
        self._beginning = beginning  # None: they have begun
        self._late_warnings: list[str] = []
        self._encode = msgspec.json.Encoder().encode
        self._usages: list[Usage] = []
        self._timings: list[Timings] = []
        self._opened: set[int] = set()

    async def produce(self) -> AsyncGenerator[bytes]:
        """An error after the first line can only be an event: the status is out."""
        try:
            if self._beginning is not None:
                started = await self._beginning
                self._late_warnings = _warnings_of(started)
                self._shape.fingerprint = started[0].fingerprint or None
            for number, generation in enumerate(self._generations):
                async for event in generation.events:
                    if lines := b"".join(self._lines_of(event, number * (self._request.n or 1))):
                        yield lines
        except HearthError as error:
            yield data_line(self._encode(error_body(error)))
            return
        finally:
            if self._beginning is not None:
                await _abandon(self._beginning)
            await _close_all([generation.events for generation in self._generations])
        last = DONE
        if self._request.stream_options and self._request.stream_options.include_usage:
            closing = self._shape.closing(
                _sum_usage(self._usages), _sum_timings(self._timings), self._generations[0].route()
            )
            last = data_line(self._encode(closing)) + DONE
        yield last

    def _lines_of(self, event: Started | list[Delta] | Ended, first_choice: int) -> Iterator[bytes]:
        if isinstance(event, Ended):
            self._usages.append(event.usage)
            self._timings.append(event.timings)
        elif isinstance(event, list):
            for delta in _merged(event):
                placed = msgspec.structs.replace(delta, choice=delta.choice + first_choice)
                if self._late_warnings:
                    placed = msgspec.structs.replace(
                        placed, warnings=(*self._late_warnings, *placed.warnings)
                    )
                    self._late_warnings = []
                if placed.choice not in self._opened:
                    self._opened.add(placed.choice)
                    if (opening := self._shape.opening(placed.choice)) is not None:
                        yield data_line(self._encode(opening))
                yield data_line(self._encode(self._shape.chunk(placed)))


def _merged(deltas: list[Delta]) -> list[Delta]:
    """Deltas of one choice that have piled up behind a slow reader, joined into one."""
    if len(deltas) == 1:
        return deltas if _says_something(deltas[0]) else []
    merged: dict[int, Delta] = {}
    for delta in deltas:
        before = merged.get(delta.choice)
        merged[delta.choice] = delta if before is None else _joined(before, delta)
    return [delta for delta in merged.values() if _says_something(delta)]


def _joined(first: Delta, second: Delta) -> Delta:
    return msgspec.structs.replace(
        second,
        text=first.text + second.text,
        reasoning=first.reasoning + second.reasoning,
        tool_calls=first.tool_calls + second.tool_calls,
        tokens=first.tokens + second.tokens,
        logprobs=first.logprobs + second.logprobs,
        warnings=first.warnings + second.warnings,
    )


def _says_something(delta: Delta) -> bool:
    return bool(
        delta.text
        or delta.reasoning
        or delta.tool_calls
        or delta.logprobs
        or delta.finish_reason
        or delta.warnings
    )


def _sum_usage(usages: Sequence[Usage]) -> Usage:
    return Usage(
        prompt_tokens=sum(usage.prompt_tokens for usage in usages),
        completion_tokens=sum(usage.completion_tokens for usage in usages),
        cached_tokens=sum(usage.cached_tokens for usage in usages),
        reasoning_tokens=sum(usage.reasoning_tokens for usage in usages),
    )


def _sum_timings(timings: Sequence[Timings]) -> Timings:
    return Timings(
        queued=sum(each.queued for each in timings),
        prefill=sum(each.prefill for each in timings),
        decode=sum(each.decode for each in timings),
    )


def timings_body(timings: Timings) -> TimingsBody:
    return TimingsBody(queued=timings.queued, prefill=timings.prefill, decode=timings.decode)


def now() -> int:
    """Unix time in whole seconds, as `created` wants it."""
    return int(time.time())
