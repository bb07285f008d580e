"""A local model that is a peer of the real handle, and a router around scripted services."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from appliance.config.routing import Routing
from appliance.errors import HearthError
from appliance.records import Delta, Ended, Started, Timings, Usage
from appliance.routing.answer import LocalModel
from appliance.routing.registry import Model
from appliance.routing.request import Attempt, Events, Route, RoutedRequest
from appliance.routing.router import Router
from tests.routing.conftest import KEY, closers
from tests.upstream.behaviour import in_pieces

HOME = Path(__file__).parent


class Speaker:
    """Says `text`, or what is left of it after a partial answer. `error` is raised after `breaks_after`
    characters, or, with `breaks_at_end`, between the end of the text and the count of its tokens.
    """

    def __init__(
        self,
        text: str,
        *,
        error: HearthError | None = None,
        breaks_after: int = 0,
        breaks_at_end: bool = False,
    ) -> None:
        self.text, self.error, self.breaks_after = text, error, breaks_after
        self.breaks_at_end = breaks_at_end
        self.asked: list[tuple[RoutedRequest, str]] = []
        self.closed = 0

    async def generate(self, request: RoutedRequest, *, partial: str, deadline: float | None) -> Events:
        self.asked.append((request, partial))
        try:
            if self.error is not None and not self.breaks_after and not self.breaks_at_end:
                raise self.error
            assert self.text.startswith(partial), partial
            yield Started(id=1, prompt_tokens=5)
            said = 0
            pieces = in_pieces(self.text[len(partial) :], len(partial))
            for piece in pieces:
                if self.error and not self.breaks_at_end and said + len(piece) > self.breaks_after:
                    yield [Delta(id=1, choice=0, text=piece[: self.breaks_after - said], tokens=1)]
                    raise self.error
                said += len(piece)
                await asyncio.sleep(0)
                yield [Delta(id=1, choice=0, text=piece, tokens=1)]
            yield [Delta(id=1, choice=0, text="", tokens=0, finish_reason="stop")]
            if self.error is not None and self.breaks_at_end:
                raise self.error
            yield Ended(
                id=1,
                usage=Usage(prompt_tokens=5, completion_tokens=len(pieces)),
                timings=Timings(queued=0.001, prefill=0.001, decode=0.01),
            )
        finally:
            self.closed += 1


class Counter:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.attempts: list[Attempt] = []
        self.answers: list[tuple[Route, Usage, Timings]] = []

    def note_attempt(self, model: Model, attempt: Attempt) -> None:
        self.attempts.append(attempt)

    def note_answer(self, model: Model, route: Route, usage: Usage, timings: Timings) -> None:
        self.answers.append((route, usage, timings))


def anywhere(host: str, port: int) -> None:
    """No guard."""


def local_model(speaker: LocalModel, name: str = "small") -> dict[str, tuple[Model, LocalModel]]:
    model = Model(
        platform="local",
        name=name,
        public_name=name,
        quality=10,
        capabilities=frozenset(["completions", "tokens", "schema", "grammar", "logprobs", "bias"]),
    )
    return {name: (model, speaker)}


def make_router(settings: Routing, speaker: LocalModel | None, **options: Any) -> Router:
    """Closed with the test's loop."""
    local = local_model(speaker) if speaker is not None else {}
    options = {"check": anywhere, "directory": HOME, "environment": {"TEST_KEY": KEY}} | options
    router = Router(settings, local, **options)

    def close() -> None:
        for upstream in router._setup.candidates.upstreams.values():
            upstream.close()
        for _, task in router._checks.values():
            task.cancel()

    closers.append(close)
    return router


class Heard:
    """What came out of one routed generation."""

    def __init__(self) -> None:
        self.text = ""
        self.finishes: list[str] = []
        self.started: Started | None = None
        self.ended: Ended | None = None
        self.route_at_start: Route | None = None
        self.route: Route | None = None
        self.error: HearthError | None = None

    @property
    def outcomes(self) -> list[str]:
        assert self.route is not None
        return [attempt.outcome for attempt in self.route.attempts]


async def hear(
    router: Router, request: RoutedRequest, until: Callable[[Heard], bool] = lambda heard: False
) -> Heard:
    """The whole answer, checked for its order; or its beginning, up to where `until` holds."""
    heard = Heard()
    routed = router.open(request)
    events = routed.events()
    try:
        async for event in events:
            if isinstance(event, Started):
                assert heard.started is None
                heard.started, heard.route_at_start = event, routed.route
            elif isinstance(event, Ended):
                assert heard.ended is None
                heard.ended = event
            else:
                assert heard.started is not None
                assert heard.ended is None
                heard.text += "".join(delta.text for delta in event)
                heard.finishes += [d.finish_reason for d in event if d.finish_reason]
            if until(heard):
                break
        else:
            assert heard.ended is not None
    except HearthError as error:
        heard.error = error
    await events.aclose()
    heard.route = routed.route
    return heard
