"""Which instance of a model takes a request, how many run at once, who waits and in which order.

Least outstanding work for its weight goes first. Those who wait are served in turn, key by key, so that one
key's backlog delays nobody else; their number and their patience are bounded. Knows no HTTP.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Collection
from typing import Literal

from msgspec import Struct

from appliance.config.routing import Breaker as BreakerSettings
from appliance.routing.breaker import Breaker, BreakerState
from appliance.routing.endpoint import Endpoint
from appliance.routing.failure import UpstreamFailure
from appliance.routing.registry import Instance, Model

Outcome = Literal["succeed", "fail", "leave"]


class Place(Struct, frozen=True, kw_only=True):
    """One instance's figures."""

    url: str
    running: int
    breaker: BreakerState
    down_for: float


class _Seat:
    """One instance, and what it is doing."""

    def __init__(self, instance: Instance, breaker: Breaker, most: int) -> None:
        self.instance, self.breaker, self.most = instance, breaker, most
        self.running = 0
        self.work = 0

    @property
    def is_free(self) -> bool:
        return self.running < self.most and self.breaker.may_pass()

    @property
    def load(self) -> float:
        return self.work / self.instance.weight


class Lease:
    """The right to ask one instance. `end` exactly once; later calls do nothing."""

    def __init__(self, owner: Balancer, seat: _Seat, work: int) -> None:
        self._owner, self._seat, self._work = owner, seat, work
        self._is_over = False
        self.instance = seat.instance

    def end(self, outcome: Outcome, *, retry_after: float | None = None) -> None:
        if self._is_over:
            return
        self._is_over = True
        breaker = self._seat.breaker
        if outcome == "succeed":
            breaker.succeed()
        elif outcome == "fail":
            breaker.fail()
        else:
            breaker.leave()
        if retry_after is not None:
            breaker.pause(retry_after)
        self._seat.running -= 1
        self._seat.work -= self._work
        self._owner.serve()


_Waiter = tuple[int, "asyncio.Future[_Seat]"]


class Balancer:
    """The instances of one model."""

    def __init__(self, model: Model, settings: BreakerSettings, clock: Callable[[], float]) -> None:
        self.model = model
        self._seats = [_Seat(each, Breaker(settings, clock), model.concurrency) for each in model.instances]
        self._waiting: OrderedDict[str, deque[_Waiter]] = OrderedDict()
        self.waiting = 0

    @property
    def down_for(self) -> float:
        """Seconds until some instance may be asked; 0 when one may now."""
        return min(seat.breaker.down_for for seat in self._seats)

    def places(self) -> list[Place]:
        return [
            Place(
                url=seat.instance.endpoint.url,
                running=seat.running,
                breaker=seat.breaker.state,
                down_for=seat.breaker.down_for,
            )
            for seat in self._seats
        ]

    def note_unhealthy(self, endpoint: Endpoint) -> None:
        """A health check failed. That one succeeds says nothing: only answers bring an instance back."""
        for seat in self._seats:
            if seat.instance.endpoint == endpoint:
                seat.breaker.fail()

    async def acquire(self, key: str, work: int, avoid: Collection[str] = ()) -> Lease:
        """An instance for about `work` tokens; another than `avoid` (addresses) where there is one.

        Raises UpstreamFailure of kind busy: all instances are paused, too many wait already, or the wait was
        too long.
        """
        seat = None if self._waiting else self._best(avoid)
        if seat is None:
            seat = await self._wait(key, work)
        else:
            self._take(seat, work)
        return Lease(self, seat, work)

    def serve(self) -> None:
        """Give free places to those who wait, one key after the other."""
        while self._waiting:
            seat = self._best(())
            if seat is None:
                if not any(each.running for each in self._seats):
                    self._send_away()  # nobody would ever call here again
                return
            key, queue = next(iter(self._waiting.items()))
            work, waiter = queue.popleft()
            self._waiting.move_to_end(key)
            if not queue:
                del self._waiting[key]
            if not waiter.done():
                self._take(seat, work)
                waiter.set_result(seat)

    def _best(self, avoid: Collection[str]) -> _Seat | None:
        free = [seat for seat in self._seats if seat.is_free]
        others = [seat for seat in free if seat.instance.endpoint.url not in avoid]
        return min(others or free, key=lambda seat: (seat.load, seat.running), default=None)

    def _take(self, seat: _Seat, work: int) -> None:
        seat.breaker.enter()
        seat.running += 1
        seat.work += work

    async def _wait(self, key: str, work: int) -> _Seat:
        if not any(seat.running for seat in self._seats):
            raise self._all_paused()
        if self.waiting >= self.model.queue:
            raise UpstreamFailure("busy", f"{self.waiting} requests wait for it already", retry_after=1.0)
        waiter: asyncio.Future[_Seat] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, deque()).append((work, waiter))
        self.waiting += 1
        try:
            async with asyncio.timeout(self.model.queue_seconds):
                return await waiter
        except BaseException as error:
            self._forget(key, work, waiter)
            if isinstance(error, TimeoutError):
                detail = f"no instance was free within {self.model.queue_seconds:g} s"
                raise UpstreamFailure("busy", detail, retry_after=1.0) from None
            raise
        finally:
            self.waiting -= 1

    def _forget(self, key: str, work: int, waiter: asyncio.Future[_Seat]) -> None:
        """The waiter left; a place that it was just given goes to the next."""
        if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
            Lease(self, waiter.result(), work).end("leave")
        elif (queue := self._waiting.get(key)) is not None:
            remaining = deque(each for each in queue if each[1] is not waiter)
            if remaining:
                self._waiting[key] = remaining
            else:
                del self._waiting[key]

    def _send_away(self) -> None:
        for queue in self._waiting.values():
            for _, waiter in queue:
                if not waiter.done():
                    waiter.set_exception(self._all_paused())
        self._waiting.clear()

    def _all_paused(self) -> UpstreamFailure:
        return UpstreamFailure("busy", "every instance is paused", retry_after=max(1.0, self.down_for))
