"""One routed embedding or rerank: candidates in their order until one has answered, in one piece.

An embedding never moves to a model that was not asked for: its vectors would mean something else.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from appliance.errors import HearthError
from appliance.records import Timings, Usage
from appliance.routing.answer import MILLION, reserve
from appliance.routing.budgets import Amount
from appliance.routing.decision import Candidate, Decision
from appliance.routing.exhausted import another_may_answer, nobody_answered
from appliance.routing.failover import Candidates
from appliance.routing.failure import UpstreamFailure
from appliance.routing.registry import Model
from appliance.routing.request import Attempt, Route, RoutedRequest
from appliance.routing.upstream import Upstream

Result = TypeVar("Result")
Counted = tuple[Result, int]  # a result and how many tokens it took


class RoutedCall(Generic[Result]):
    """`local` and `online` do the work of one candidate. `run` once; then `route` says who answered."""

    def __init__(
        self,
        request: RoutedRequest,
        decision: Decision,
        through: Candidates,
        *,
        local: Callable[[Model], Awaitable[Counted[Result]]],
        online: Callable[[Upstream, Model], Awaitable[Counted[Result]]],
    ) -> None:
        self._request, self._decision, self._through = request, decision, through
        self._local, self._online = local, online
        self._attempts: list[Attempt] = []
        self._chosen = decision.require()[0]
        self._cost = 0.0
        self.usage: Usage | None = None  # None until somebody has answered

    @property
    def route(self) -> Route:
        model = self._chosen.model
        return Route(
            platform=model.platform,
            model=model.public_name,
            is_local=model.is_local,
            policy=self._decision.policy,
            reason=self._chosen.reason,
            attempts=tuple(self._attempts),
            cost=self._cost,
        )

    @property
    def warnings(self) -> tuple[str, ...]:
        found = self._request.sensitive
        said = found.warning(is_local=self._chosen.model.is_local) if found is not None else ""
        return (said,) if said else ()

    async def run(self) -> Result:
        """Raises the typed error when nobody answered."""
        failures: list[UpstreamFailure] = []
        begun = time.monotonic()
        for candidate in self._decision.candidates[: self._through.routing.calls]:
            self._chosen = candidate
            at = time.monotonic()
            try:
                result, tokens, instance = await self._ask(candidate)
            except UpstreamFailure as failure:
                self._note(candidate.model, "", failure.kind, failure.detail, at)
                failures.append(failure)
                if failure.error is not None and not another_may_answer(failure.error):
                    raise failure.error from None
                continue
            self._note(candidate.model, instance, "ok", "", at)
            self._cost = candidate.model.price(tokens, 0)
            usage = self.usage = Usage(prompt_tokens=tokens, completion_tokens=0)
            timings = Timings(queued=at - begun, prefill=time.monotonic() - at)
            self._through.observer.note_answer(candidate.model, self.route, usage, timings)
            return result
        raise nobody_answered(failures, self._attempts)

    async def _ask(self, candidate: Candidate) -> tuple[Result, int, str]:
        model = candidate.model
        if model.is_local:
            try:
                return *await self._local(model), ""
            except HearthError as error:
                raise UpstreamFailure("local", error.message, error=error) from error
        budgets = self._through.budgets
        reservation, work = await reserve(budgets, self._request, model)
        spent = Amount(tokens=0, money=0)
        try:
            lease = await self._through.balancers[model.id].acquire(self._request.key, work)
            try:
                upstream = self._through.upstreams[model.platform, lease.instance.endpoint]
                result, tokens = await self._online(upstream, model)
            except UpstreamFailure as failure:
                lease.end("fail" if failure.is_blamed else "leave", retry_after=failure.retry_after)
                raise
            except BaseException:
                lease.end("leave")
                raise
            lease.end("succeed")
            spent = Amount(tokens=tokens, money=round(model.price(tokens, 0) * MILLION))
            return result, tokens, lease.instance.endpoint.url
        finally:
            if budgets is not None and reservation is not None:
                await asyncio.shield(budgets.settle(reservation, spent))

    def _note(self, model: Model, instance: str, outcome: str, detail: str, begun_at: float) -> None:
        attempt = Attempt(
            platform=model.platform,
            model=model.public_name,
            instance=instance,
            outcome=outcome,
            detail=detail,
            seconds=time.monotonic() - begun_at,
        )
        self._attempts.append(attempt)
        self._through.observer.note_attempt(model, attempt)
