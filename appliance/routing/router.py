"""Routing as the rest of the house sees it: a request in, a decided generation out; reload, health, figures,
stop.

In mode `offline` no platform, no key and no client exists here. A reload builds everything anew, then swaps
one reference: running answers keep what they have; unchanged platforms keep their connections, unchanged
models their breakers and measurements.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from appliance.config.routing import Role, Routing
from appliance.records import Timings, Usage
from appliance.routing.answer import LocalModel
from appliance.routing.balance import Balancer, Place
from appliance.routing.budgets import Budgets
from appliance.routing.custom import load_policy
from appliance.routing.decision import Decision, Facts, ModelState
from appliance.routing.dial import AddressCheck
from appliance.routing.encode import Counted, Result, RoutedCall
from appliance.routing.failover import Candidates, Observer, Routed
from appliance.routing.failure import UpstreamFailure
from appliance.routing.policy import CustomPolicy, decide
from appliance.routing.registry import Model, Platform, Registry, build_registry
from appliance.routing.request import Attempt, Route, RoutedRequest, guess_tokens, needs, role_of
from appliance.routing.upstream import Upstream, Upstreams

log = logging.getLogger("hearth.routing")

SMOOTHING = 0.2  # weight of the newest measurement


# The models of this machine by name; those that do not generate have no generator.
Locals = Mapping[str, tuple[Model, LocalModel | None]]


class Figures(Struct, frozen=True, kw_only=True):
    """One model's gauges."""

    model: Model
    waiting: int
    places: tuple[Place, ...]
    first_token_seconds: float | None
    token_seconds: float | None


class _Setup(Struct, frozen=True, kw_only=True):
    """One configuration, whole."""

    routing: Routing
    registry: Registry
    custom: CustomPolicy | None
    candidates: Candidates


class _Measured(Struct):
    first_token_seconds: float
    token_seconds: float


class Router:
    """`start` for health checks, `close` at the end. Raises ConfigError for settings that cannot be.

    `check` is the egress guard's word on each address; `local` are the models of this machine, by name.
    """

    def __init__(
        self,
        routing: Routing,
        local: Locals,
        *,
        check: AddressCheck,
        directory: Path,
        environment: Mapping[str, str] | None = None,
        budgets: Budgets | None = None,
        observer: Observer | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._local = dict(local)
        self._check = check
        self._directory = directory
        self._environment = os.environ if environment is None else environment
        self._budgets = budgets
        self._observer = observer
        self._clock = clock
        self._measured: dict[str, _Measured] = {}
        self._checks: dict[str, tuple[Platform, asyncio.Task[None]]] = {}
        self._is_started = False
        self._setup = self._build(routing, None)

    # Requests

    def open(self, request: RoutedRequest) -> Routed:
        """Decide who answers. Raises ModelNotFound, InvalidValue, or the typed error when nobody may or
        can.
        """
        return Routed(request, self.explain(request), self._setup.candidates)

    def open_call(
        self,
        request: RoutedRequest,
        *,
        local: Callable[[Model], Awaitable[Counted[Result]]],
        online: Callable[[Upstream, Model], Awaitable[Counted[Result]]],
    ) -> RoutedCall[Result]:
        """The same for an embedding or a rerank; `local` and `online` do one candidate's work."""
        return RoutedCall(request, self.explain(request), self._setup.candidates, local=local, online=online)

    def explain(self, request: RoutedRequest) -> Decision:
        """The decision for `request` as it would be now; nothing is asked. Raises ModelNotFound,
        InvalidValue.
        """
        setup = self._setup
        facts = Facts(
            model=request.model,
            task=request.task,
            role=role_of(request.task),
            key=request.key,
            conversation=request.conversation,
            bases=request.bases,
            is_local_only=request.is_local_only,
            policy=request.policy,
            scope=request.scope,
            needs=needs(request),
            prompt_tokens=guess_tokens(request.prompt),
            answer_tokens=request.sampling.max_tokens or 0,
            draw=random.random(),
        )
        return decide(facts, setup.registry, setup.routing, self._states(request.key), setup.custom)

    def check_model(self, name: str, role: Role) -> None:
        """Raises ModelNotFound, or InvalidValue when `name` stands for models of other roles only."""
        self._setup.registry.resolve(name, role)

    def models(self) -> tuple[Model, ...]:
        """The models that may answer: this machine's, the configured, the discovered."""
        return self._setup.registry.models

    def aliases(self) -> dict[str, tuple[Model, ...]]:
        """Further plain names, and the models that each stands for."""
        registry = self._setup.registry
        return {
            name: registry.of(targets)
            for name, targets in registry.aliases.items()
            if name in registry.names()
        }

    def _states(self, key: str) -> dict[str, ModelState]:
        setup = self._setup
        refusals: dict[str, str] = {}
        if self._budgets is not None:
            refusals = {name: self._budgets.refusal(key, name) for name in setup.registry.platforms}
        states: dict[str, ModelState] = {}
        for model in setup.registry.models:
            measured = self._measured.get(model.id)
            balancer = setup.candidates.balancers.get(model.id)
            states[model.id] = ModelState(
                first_token_seconds=measured.first_token_seconds if measured else None,
                token_seconds=measured.token_seconds if measured else None,
                down_for=balancer.down_for if balancer is not None else 0.0,
                over_budget=refusals.get(model.platform, ""),
            )
        return states

    # Observations

    def note_attempt(self, model: Model, attempt: Attempt) -> None:
        if attempt.outcome not in ("ok", "left"):
            log.info("%s %s: %s %s", model.id, attempt.instance, attempt.outcome, attempt.detail)
        if self._observer is not None:
            self._observer.note_attempt(model, attempt)

    def note_answer(self, model: Model, route: Route, usage: Usage, timings: Timings) -> None:
        """Smoothed measurements of whole answers, for the policy `fastest`."""
        first = timings.queued + timings.prefill
        each = timings.decode / max(1, usage.completion_tokens)
        if not route.continuations and len(route.attempts) == 1:
            known = self._measured.setdefault(model.id, _Measured(first, each))
            known.first_token_seconds += SMOOTHING * (first - known.first_token_seconds)
            known.token_seconds += SMOOTHING * (each - known.token_seconds)
        if self._observer is not None:
            self._observer.note_answer(model, route, usage, timings)

    def figures(self) -> list[Figures]:
        balancers = self._setup.candidates.balancers
        found = []
        for model in self._setup.registry.models:
            measured = self._measured.get(model.id)
            balancer = balancers.get(model.id)
            found.append(
                Figures(
                    model=model,
                    waiting=balancer.waiting if balancer is not None else 0,
                    places=tuple(balancer.places()) if balancer is not None else (),
                    first_token_seconds=measured.first_token_seconds if measured else None,
                    token_seconds=measured.token_seconds if measured else None,
                )
            )
        return found

    # Life

    def start(self) -> None:
        """Begin the health checks; needs the running loop."""
        self._is_started = True
        self._start_checks()

    def reload(self, routing: Routing, local: Locals | None = None) -> None:
        """Take new settings at once. Raises ConfigError, and then nothing has changed."""
        before = self._setup
        local_before = self._local
        if local is not None:
            self._local = dict(local)
        try:
            after = self._build(routing, before)
        except BaseException:
            self._local = local_before
            raise
        self._setup = after
        if self._budgets is not None:
            self._budgets.replace(routing.budgets)
        kept = {id(upstream) for upstream in after.candidates.upstreams.values()}
        for upstream in before.candidates.upstreams.values():
            if id(upstream) not in kept:
                upstream.close()
        if self._is_started:
            self._start_checks()

    async def close(self) -> None:
        """End checks and connections; the budgets' file too, which is the router's own from now on."""
        tasks = [task for _, task in self._checks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._checks.clear()
        for upstream in self._setup.candidates.upstreams.values():
            upstream.close()
        await asyncio.sleep(0)  # the transports' own goodbyes
        if self._budgets is not None:
            self._budgets.close()

    # Building

    def _build(self, routing: Routing, before: _Setup | None) -> _Setup:
        local_models = [model for model, _ in self._local.values()]
        registry = build_registry(routing, local_models, self._environment)
        uses_custom = "custom" in (routing.policy, *(rule.policy for rule in routing.rules))
        custom = load_policy(routing.custom, self._directory) if uses_custom else None
        return self._assemble(routing, registry, custom, before)

    def _assemble(
        self, routing: Routing, registry: Registry, custom: CustomPolicy | None, before: _Setup | None
    ) -> _Setup:
        upstreams: Upstreams = {}
        balancers: dict[str, Balancer] = {}
        old = before.candidates if before is not None else None
        same_breaker = before is not None and before.routing.breaker == routing.breaker
        for model in registry.models:
            if model.is_local:
                continue
            platform = registry.platforms[model.platform]
            for instance in model.instances:
                place = (platform.name, instance.endpoint)
                known = old.upstreams.get(place) if old is not None else None
                if known is None or known.platform != platform:
                    known = upstreams.get(place) or Upstream(platform, instance.endpoint, self._check)
                upstreams[place] = known
            balancer = old.balancers.get(model.id) if old is not None else None
            if balancer is None or balancer.model != model or not same_breaker:
                balancer = Balancer(model, routing.breaker, self._clock)
            balancers[model.id] = balancer
        candidates = Candidates(
            routing=routing,
            balancers=balancers,
            upstreams=upstreams,
            platform_types={platform.name: platform.type for platform in registry.platforms.values()},
            local={name: model for name, (_, model) in self._local.items() if model is not None},
            budgets=self._budgets,
            observer=self,
        )
        return _Setup(routing=routing, registry=registry, custom=custom, candidates=candidates)

    # Health

    def _start_checks(self) -> None:
        """A check of every platform that wants one; those of unchanged platforms go on."""
        wanted = {
            platform.name: platform
            for platform in self._setup.registry.platforms.values()
            if platform.health_seconds or platform.discover
        }
        for name, (platform, task) in list(self._checks.items()):
            if wanted.get(name) != platform:
                task.cancel()
                del self._checks[name]
        for name, platform in wanted.items():
            if name not in self._checks:
                self._checks[name] = platform, asyncio.ensure_future(self._check_health(platform))

    async def _check_health(self, platform: Platform) -> None:
        """Ask a platform's own instances for their models, for ever; only configured hosts are ever asked."""
        while True:
            setup = self._setup
            for upstream in list(setup.candidates.upstreams.values()):
                if upstream.platform.name == platform.name:
                    await self._check_instance(setup, upstream)
            pause = platform.health_seconds or 300.0
            await asyncio.sleep(pause * random.uniform(0.8, 1.2))

    async def _check_instance(self, setup: _Setup, upstream: Upstream) -> None:
        try:
            names: Sequence[str] = await upstream.models()
        except UpstreamFailure as failure:
            log.info("health of %s %s: %s", upstream.platform.name, upstream.endpoint.url, failure)
            # A service without /models is no ill service.
            if failure.is_blamed and failure.kind != "rejected_key":
                for balancer in setup.candidates.balancers.values():
                    if balancer.model.platform == upstream.platform.name:
                        balancer.note_unhealthy(upstream.endpoint)
            return
        if upstream.platform.discover and upstream.endpoint == upstream.platform.endpoint:
            self._discover(upstream.platform, names)

    def _discover(self, platform: Platform, names: Sequence[str]) -> None:
        setup = self._setup
        if setup.registry.platforms.get(platform.name) != platform:
            return  # reloaded meanwhile
        registry = setup.registry.with_discovered(platform.name, names)
        if registry.models != setup.registry.models:
            self._setup = self._assemble(setup.routing, registry, setup.custom, setup)
