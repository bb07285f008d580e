"""Figures of each model and each of its instances, and of the arms of an A/B split: counts, times, money.

Told by the router of every attempt and every whole answer; read by Prometheus and by operators' screens.
Knows models by their names only. Percentiles are of the latest answers, all else counts from the start.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from msgspec import Struct, field
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from appliance.records import Timings, Usage

KEPT_TIMES = 512
HERE = "local"  # the instance of a model of this machine
BREAKER_STATES = {"closed": 0, "half-open": 1, "open": 2}


class Model(Protocol):
    @property
    def platform(self) -> str: ...
    @property
    def public_name(self) -> str: ...


class Attempt(Protocol):
    @property
    def arm(self) -> str: ...
    @property
    def instance(self) -> str: ...
    @property
    def outcome(self) -> str: ...


class Route(Protocol):
    @property
    def arm(self) -> str: ...
    @property
    def attempts(self) -> Sequence[Attempt]: ...
    @property
    def cost(self) -> float: ...


class Place(Protocol):
    @property
    def url(self) -> str: ...
    @property
    def running(self) -> int: ...
    @property
    def breaker(self) -> str: ...


class Summary(Struct, kw_only=True):
    """One instance of a model, or one arm. Times in seconds; None where nothing was measured yet."""

    answers: int = 0
    errors: dict[str, int] = field(default_factory=dict)  # by kind
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0
    first_token_p50: float | None = None
    first_token_p99: float | None = None
    total_p50: float | None = None
    total_p99: float | None = None


class _Counted:
    def __init__(self) -> None:
        self.answers = self.prompt_tokens = self.completion_tokens = 0
        self.cost = 0.0
        self.errors: Tally[str] = Tally()
        self._first: deque[float] = deque(maxlen=KEPT_TIMES)
        self._total: deque[float] = deque(maxlen=KEPT_TIMES)

    def add(self, usage: Usage, cost: float, first: float, total: float) -> None:
        self.answers += 1
        self.prompt_tokens += usage.prompt_tokens
        self.completion_tokens += usage.completion_tokens
        self.cost += cost
        self._first.append(first)
        self._total.append(total)

    def summary(self) -> Summary:
        first, total = sorted(self._first), sorted(self._total)
        return Summary(
            answers=self.answers,
            errors=dict(self.errors),
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            cost=self.cost,
            first_token_p50=_quantile(first, 0.5),
            first_token_p99=_quantile(first, 0.99),
            total_p50=_quantile(total, 0.5),
            total_p99=_quantile(total, 0.99),
        )


Instance = tuple[str, str, str]  # platform, model, instance
TOKEN_KINDS = ("prompt", "cached", "completion")


class _Series(NamedTuple):
    """What every whole answer of one instance is added to. Looking it up by labels costs more."""

    first_token: Histogram
    total: Histogram
    tokens: tuple[Counter, ...]  # by TOKEN_KINDS


class ModelFigures:
    """Owned by the event loop. Labels are names from the configuration: clients cannot multiply them."""

    def __init__(self, registry: CollectorRegistry, buckets: Sequence[float]) -> None:
        instance = ["model", "platform", "instance"]
        self._total_seconds = Histogram(
            "model_inference_latency_seconds",
            "An answer's whole time, queueing and failed attempts included",
            instance,
            buckets=buckets,
            registry=registry,
        )
        self._first_token_seconds = Histogram(
            "hearth_first_token_seconds",
            "From a request's acceptance to its answer's first token",
            instance,
            buckets=buckets,
            registry=registry,
        )
        self._tokens = Counter(
            "hearth_tokens",
            "Tokens by kind: prompt, cached, completion",
            ["model", "platform", "kind"],
            registry=registry,
        )
        self._attempts = Counter(
            "hearth_model_attempts",
            "Attempts by outcome: ok, left (nobody wanted the rest), or the kind of failure",
            [*instance, "outcome"],
            registry=registry,
        )
        self._cost = Counter(
            "hearth_model_cost",
            "Money spent, by the configured prices",
            ["model", "platform"],
            registry=registry,
        )
        self._running = Gauge("hearth_instance_running", "Calls that run now", instance, registry=registry)
        self._breaker = Gauge(
            "hearth_instance_breaker",
            "Circuit breaker: 0 closed, 1 half-open, 2 open",
            instance,
            registry=registry,
        )
        self._waiting = Gauge(
            "hearth_model_waiting",
            "Requests that wait for an instance",
            ["model", "platform"],
            registry=registry,
        )
        self._arm_answers = Counter(
            "hearth_arm_answers", "Whole answers of each arm of a split", ["arm", "model"], registry=registry
        )
        self._series: dict[Instance, _Series] = {}
        self._outcomes: dict[tuple[Instance, str], Counter] = {}
        self._instances: dict[Instance, _Counted] = {}
        self._arms: dict[str, _Counted] = {}

    # What the router tells

    def note_attempt(self, model: Model, attempt: Attempt) -> None:
        place = (model.platform, model.public_name, attempt.instance or HERE)
        outcome = self._outcomes.get((place, attempt.outcome))
        if outcome is None:
            outcome = self._attempts.labels(place[1], place[0], place[2], attempt.outcome)
            self._outcomes[place, attempt.outcome] = outcome
        outcome.inc()
        if attempt.outcome not in ("ok", "left"):
            self._counted(place).errors[attempt.outcome] += 1
            if attempt.arm:
                self._arms.setdefault(attempt.arm, _Counted()).errors[attempt.outcome] += 1

    def note_answer(self, model: Model, route: Route, usage: Usage, timings: Timings) -> None:
        instance = route.attempts[-1].instance if route.attempts else ""
        place = (model.platform, model.public_name, instance or HERE)
        series = self._series.get(place) or self._series_of(place)
        first = timings.queued + timings.prefill
        total = first + timings.decode
        series.first_token.observe(first)
        series.total.observe(total)
        used = (usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens)
        for counter, tokens in zip(series.tokens, used, strict=True):
            counter.inc(tokens)
        if route.cost:
            self._cost.labels(place[1], place[0]).inc(route.cost)
        self._counted(place).add(usage, route.cost, first, total)
        if route.arm:
            self._arm_answers.labels(route.arm, model.public_name).inc()
            self._arms.setdefault(route.arm, _Counted()).add(usage, route.cost, first, total)

    def show(self, model: Model, waiting: int, places: Sequence[Place]) -> None:
        """The gauges of one model, as they are now."""
        labels = (model.public_name, model.platform)
        self._waiting.labels(*labels).set(waiting)
        for place in places:
            self._running.labels(*labels, place.url).set(place.running)
            self._breaker.labels(*labels, place.url).set(BREAKER_STATES[place.breaker])

    def clear_gauges(self) -> None:
        """Forget instances that a reload may have removed."""
        for gauge in (self._waiting, self._running, self._breaker):
            gauge.clear()

    # What operators read

    def instances(self) -> dict[Instance, Summary]:
        return {place: counted.summary() for place, counted in self._instances.items()}

    def arms(self) -> dict[str, Summary]:
        return {arm: counted.summary() for arm, counted in self._arms.items()}

    def _series_of(self, place: Instance) -> _Series:
        platform, model, instance = place
        made = self._series[place] = _Series(
            self._first_token_seconds.labels(model, platform, instance),
            self._total_seconds.labels(model, platform, instance),
            tuple(self._tokens.labels(model, platform, kind) for kind in TOKEN_KINDS),
        )
        return made

    def _counted(self, place: Instance) -> _Counted:
        return self._instances.setdefault(place, _Counted())


def _quantile(ordered: list[float], share: float) -> float | None:
    """The nearest-rank quantile of values in order."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None
