"""One candidate's answer, local or online behind the same face: opened, read, ended. Tells of failures,
retries nothing.

What an answer holds (an instance's lease, a budget's reservation, a connection) is given back by `end`,
whatever happened.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

from appliance.errors import HearthError, Overloaded
from appliance.records import Delta, Ended, Started, Timings, Usage
from appliance.routing.balance import Balancer, Lease
from appliance.routing.budgets import Amount, Budgets, Reservation
from appliance.routing.decision import Candidate
from appliance.routing.failure import UpstreamFailure
from appliance.routing.outbound import outbound, outbound_text
from appliance.routing.registry import Model
from appliance.routing.request import ANSWER_GUESS, Events, RoutedRequest, guess_tokens
from appliance.routing.upstream import Upstream, Upstreams, UpstreamStream

MILLION = 1_000_000


class LocalModel(Protocol):
    """A model of this machine. With `partial` the answer goes on from that text and gives only what
    follows.
    """

    def generate(self, request: RoutedRequest, *, partial: str, deadline: float | None) -> Events: ...


class Answer(Protocol):
    candidate: Candidate
    first: list[Delta] | None  # what had come when it was opened; None: read on
    started: Started | None
    instance: str
    begun_at: float
    tokens: int

    async def read(self) -> list[Delta] | None:
        """The next deltas, None at the end of a whole answer. Raises UpstreamFailure."""
        ...

    async def end(self, failure: UpstreamFailure | None, *, is_left: bool = False) -> None:
        """Give back everything. `is_left`: nobody wants the rest; blames nobody."""
        ...

    @property
    def usage(self) -> Usage | None: ...

    @property
    def timings(self) -> Timings | None: ...


class LocalAnswer:
    """An answer of a local model: the worker's own events."""

    def __init__(self, candidate: Candidate, events: Events) -> None:
        self.candidate = candidate
        self.first: list[Delta] | None = None
        self.started: Started | None = None
        self.instance = ""
        self.begun_at = time.monotonic()
        self.tokens = 0
        self._events = events
        self._ended: Ended | None = None

    async def open(self) -> None:
        """Until the request has its slot. Raises UpstreamFailure of kind local."""
        try:
            async for event in self._events:
                if isinstance(event, Started):
                    self.started = event
                    return
        except HearthError as error:
            raise UpstreamFailure("local", error.message, error=error) from error

    async def read(self) -> list[Delta] | None:
        try:
            async for event in self._events:
                if isinstance(event, list):
                    self.tokens += sum(delta.tokens for delta in event)
                    return event
                if isinstance(event, Ended):
                    self._ended = event
                    return None
        except HearthError as error:
            raise UpstreamFailure("local", error.message, error=error) from error
        raise UpstreamFailure("cut", "the local model ended without its end")

    async def end(self, failure: UpstreamFailure | None, *, is_left: bool = False) -> None:
        await self._events.aclose()

    @property
    def usage(self) -> Usage | None:
        return self._ended.usage if self._ended else None

    @property
    def timings(self) -> Timings | None:
        return self._ended.timings if self._ended else None


class OnlineAnswer:
    """An answer of an upstream, with its lease and its reservation."""

    def __init__(
        self, candidate: Candidate, lease: Lease, budgets: Budgets | None, reservation: Reservation | None
    ) -> None:
        self.candidate = candidate
        self.first: list[Delta] | None = None
        self.started: Started | None = None
        self.instance = lease.instance.endpoint.url
        self.begun_at = time.monotonic()
        self.tokens = 0
        self.timings: Timings | None = None
        self._lease = lease
        self._budgets = budgets
        self._reservation = reservation
        self._stream: UpstreamStream | None = None
        self._prompt_tokens = 0

    @property
    def usage(self) -> Usage | None:
        return self._stream.usage if self._stream is not None else None

    async def open(
        self, upstream: Upstream, request: RoutedRequest, *, partial: str, seconds: float, goes_on: bool
    ) -> None:
        """Until there is something of an answer. Raises UpstreamFailure."""
        self._prompt_tokens = guess_tokens(request.prompt)
        self._stream = await upstream.open(
            outbound(request),
            self.candidate.model,
            id=0,
            partial=outbound_text(request, partial),
            seconds=seconds,
            goes_on=goes_on,
        )
        while self.first is None or not any(_has_content(delta) for delta in self.first):
            deltas = await self.read()
            if deltas is None:
                break  # whole, though nothing was said: a filter's refusal
            self.first = [*(self.first or []), *deltas]

    async def read(self) -> list[Delta] | None:
        assert self._stream is not None
        deltas = await self._stream.read()
        self.tokens = self._stream.tokens
        return deltas

    async def end(self, failure: UpstreamFailure | None, *, is_left: bool = False) -> None:
        if self._stream is not None:
            self._stream.close()
        if failure is None or is_left:
            self._lease.end("leave" if is_left else "succeed")
        elif failure.is_blamed:
            self._lease.end("fail", retry_after=failure.retry_after)
        else:
            # A bare 429 still means: not now.
            pause = 1.0 if failure.kind == "rate_limited" else None
            wait = failure.retry_after if failure.retry_after is not None else pause
            self._lease.end("leave", retry_after=wait)
        if self._budgets is not None and self._reservation is not None:
            await asyncio.shield(self._budgets.settle(self._reservation, self._spent()))

    def _spent(self) -> Amount:
        """What was used by its own count, else by ours; an answer that never began costs nothing."""
        if self._stream is None:
            return Amount(tokens=0, money=0)
        usage = self.usage
        prompt = usage.prompt_tokens if usage else self._prompt_tokens
        answer = usage.completion_tokens if usage else self.tokens
        price = self.candidate.model.price(prompt, answer)
        return Amount(tokens=prompt + answer, money=round(price * MILLION))


async def reserve(
    budgets: Budgets | None, request: RoutedRequest, model: Model
) -> tuple[Reservation | None, int]:
    """A reservation for the most that the answer may use, and its tokens. Raises UpstreamFailure of kind
    over_budget.
    """
    prompt = guess_tokens(request.prompt)
    answer = (request.sampling.max_tokens or ANSWER_GUESS) * request.choices
    if budgets is None:
        return None, prompt + answer
    amount = Amount(tokens=prompt + answer, money=round(model.price(prompt, answer) * MILLION))
    found = await budgets.reserve(request.key, model.platform, amount)
    if isinstance(found, str):
        error = Overloaded(found, code="budget_used_up", retry_after=3600)
        raise UpstreamFailure("over_budget", found, error=error)
    return found, prompt + answer


async def open_online(
    candidate: Candidate,
    balancer: Balancer,
    upstreams: Upstreams,
    budgets: Budgets | None,
    request: RoutedRequest,
    *,
    partial: str,
    seconds: float,
    goes_on: bool,
    avoid: set[str],
) -> OnlineAnswer:
    """A reservation, a lease, a call. Raises UpstreamFailure; adds the instance to `avoid` when it was
    asked.
    """
    reservation, work = await reserve(budgets, request, candidate.model)
    try:
        lease = await balancer.acquire(request.key, work, avoid)
    except BaseException:
        if budgets is not None and reservation is not None:
            await asyncio.shield(budgets.settle(reservation, Amount(tokens=0, money=0)))
        raise
    answer = OnlineAnswer(candidate, lease, budgets, reservation)
    avoid.add(answer.instance)
    try:
        upstream = upstreams[candidate.model.platform, lease.instance.endpoint]
        await answer.open(upstream, request, partial=partial, seconds=seconds, goes_on=goes_on)
    except UpstreamFailure as failure:
        await answer.end(failure)
        raise
    except BaseException:
        await answer.end(None, is_left=True)
        raise
    return answer


def _has_content(delta: Delta) -> bool:
    return bool(delta.text or delta.reasoning or delta.tool_calls or delta.finish_reason)
