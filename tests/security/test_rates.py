"""Rates: buckets of requests and tokens, places, what is remembered; with a clock of the test's own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.principal import Rates
from appliance.security import rates as room
from appliance.security.rates import Left, RateLimited, RateLimits


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limits(clock: Clock) -> RateLimits:
    return RateLimits(clock)


def test_requests_a_minute(limits: RateLimits, clock: Clock) -> None:
    rates = Rates(requests_per_minute=3)
    for left in (2, 1, 0):
        limits.begin("a", rates)
        limits.end("a", 1000)  # tokens are not limited
        assert limits.left("a", rates)["requests"].remaining == left
    with pytest.raises(RateLimited) as refused:
        limits.begin("a", rates)
    assert refused.value.retry_after == pytest.approx(20)
    assert refused.value.status == 429
    limits.begin("b", rates)  # another is not concerned
    clock.now += 20
    limits.begin("a", rates)
    with pytest.raises(RateLimited):
        limits.begin("a", rates)


def test_tokens_are_owed(limits: RateLimits, clock: Clock) -> None:
    rates = Rates(tokens_per_minute=60)
    limits.begin("a", rates)
    limits.end("a", 90)
    with pytest.raises(RateLimited) as refused:
        limits.begin("a", rates)
    assert refused.value.retry_after == pytest.approx(31)
    assert limits.left("a", rates) == {"tokens": Left(60, 0, pytest.approx(90))}
    clock.now += 31
    limits.begin("a", rates)
    limits.end("a", 0)


def test_places(limits: RateLimits) -> None:
    rates = Rates(concurrent=2)
    limits.begin("a", rates)
    limits.begin("a", rates)
    with pytest.raises(RateLimited, match="2 requests are under way"):
        limits.begin("a", rates)
    limits.end("a", 5)
    limits.begin("a", rates)
    assert limits.left("a", rates) == {}


def test_a_refusal_counts_nothing(limits: RateLimits) -> None:
    rates = Rates(requests_per_minute=10, concurrent=1)
    limits.begin("a", rates)
    for _ in range(50):
        with pytest.raises(RateLimited):
            limits.begin("a", rates)
    assert limits.left("a", rates)["requests"].remaining == 9


def test_a_changed_limit_keeps_what_was_used(limits: RateLimits) -> None:
    limits.begin("a", Rates(requests_per_minute=10))
    assert limits.left("a", Rates(requests_per_minute=20))["requests"] == Left(20, 19, pytest.approx(3))
    assert limits.left("a", Rates(requests_per_minute=1))["requests"].remaining == 0


def test_a_clock_that_goes_back_fills_nothing(limits: RateLimits, clock: Clock) -> None:
    rates = Rates(requests_per_minute=1)
    limits.begin("a", rates)
    clock.now -= 1000
    with pytest.raises(RateLimited):
        limits.begin("a", rates)


def test_what_is_remembered_is_bounded(
    limits: RateLimits, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "MOST_SUBJECTS", 3)
    rates = Rates(requests_per_minute=1)
    limits.begin("busy", rates)
    for number in range(20):
        limits.begin(f"idle-{number}", rates)
        limits.end(f"idle-{number}", 0)
    with pytest.raises(RateLimited):  # one under way is not forgotten
        limits.begin("busy", rates)
    limits.end("busy", 0)


def test_all_busy_makes_no_room(limits: RateLimits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MOST_SUBJECTS", 2)
    for name in ("a", "b", "c"):
        limits.begin(name, Rates(concurrent=1))
    for name in ("a", "b", "c"):
        with pytest.raises(RateLimited):
            limits.begin(name, Rates(concurrent=1))


@given(st.integers(1, 50), st.lists(st.floats(0, 30), max_size=60))
def test_never_more_than_the_limit_in_any_minute_beyond_the_burst(limit: int, pauses: list[float]) -> None:
    clock = Clock()
    limits = RateLimits(clock)
    rates = Rates(requests_per_minute=limit)
    taken = []
    for pause in pauses:
        clock.now += pause
        try:
            limits.begin("a", rates)
        except RateLimited:
            continue
        limits.end("a", 0)
        taken.append(clock.now)
    for start in taken:
        assert sum(start <= at < start + 60 for at in taken) <= 2 * limit
