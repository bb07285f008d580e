"""Figures per model and instance: what is counted, and what operators read of it."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from appliance.records import Timings, Usage
from appliance.routing.balance import Place
from appliance.routing.registry import Model
from appliance.routing.request import Attempt, Route
from appliance.telemetry.models import HERE, ModelFigures

MODEL = Model(platform="cloud", name="big", public_name="big")
URL = "https://one.example/v1"


def attempt(outcome: str, arm: str = "", instance: str = URL) -> Attempt:
    return Attempt(platform="cloud", model="big", instance=instance, outcome=outcome, arm=arm)


def answered(figures: ModelFigures, seconds: float, *, arm: str = "", instance: str = URL) -> None:
    route = Route(
        platform="cloud",
        model="big",
        is_local=False,
        policy="split",
        reason="",
        arm=arm,
        attempts=(attempt("ok", arm, instance),),
        cost=0.25,
    )
    usage = Usage(prompt_tokens=10, completion_tokens=4, cached_tokens=3)
    figures.note_answer(MODEL, route, usage, Timings(queued=0.1, prefill=seconds, decode=1.0))


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def figures(registry: CollectorRegistry) -> ModelFigures:
    return ModelFigures(registry, (0.5, 1, 5))


def test_answers_errors_times_tokens_and_cost_are_kept_per_instance(figures: ModelFigures) -> None:
    for number in range(100):
        answered(figures, number / 100)
    figures.note_attempt(MODEL, attempt("rate_limited"))
    figures.note_attempt(MODEL, attempt("ok"))
    figures.note_attempt(MODEL, attempt("left"))
    found = figures.instances()["cloud", "big", URL]
    assert (found.answers, found.errors) == (100, {"rate_limited": 1})
    assert (found.prompt_tokens, found.completion_tokens, found.cost) == (1000, 400, 25.0)
    assert (found.first_token_p50, found.first_token_p99) == pytest.approx((0.6, 1.09))
    assert (found.total_p50, found.total_p99) == pytest.approx((1.6, 2.09))


def test_an_arm_is_blamed_for_its_own_failures_only(figures: ModelFigures) -> None:
    answered(figures, 0.1, arm="big")
    figures.note_attempt(MODEL, attempt("stall", arm="big"))
    figures.note_attempt(MODEL, attempt("stall"))
    (arm,) = figures.arms().values()
    assert (arm.answers, arm.errors) == (1, {"stall": 1})


def test_prometheus_gets_them_by_model_platform_and_instance(
    figures: ModelFigures, registry: CollectorRegistry
) -> None:
    answered(figures, 0.1, instance="")
    figures.note_attempt(MODEL, attempt("connect"))
    figures.show(MODEL, 2, [Place(url=URL, running=3, breaker="open", down_for=1.0)])
    place = f'instance="{URL}",model="big"'

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, labels)

    here = {"model": "big", "platform": "cloud", "instance": HERE}
    assert value("model_inference_latency_seconds_count", **here) == 1
    assert value("model_inference_latency_seconds_sum", **here) == pytest.approx(1.2)
    assert value("hearth_model_cost_total", model="big", platform="cloud") == 0.25
    text = generate_latest(registry).decode()
    assert f'hearth_model_attempts_total{{{place},outcome="connect",platform="cloud"}} 1.0' in text
    assert f'hearth_instance_breaker{{{place},platform="cloud"}} 2.0' in text
    assert f'hearth_instance_running{{{place},platform="cloud"}} 3.0' in text
    figures.clear_gauges()
    assert "hearth_instance_breaker{" not in generate_latest(registry).decode(), "an instance that is gone"
