"""The breaker, second by second, on a clock of the test's own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from appliance.config.routing import Breaker as Settings
from appliance.routing.breaker import Breaker


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def broken(clock: Clock, settings: Settings) -> Breaker:
    breaker = Breaker(settings, clock)
    for _ in range(settings.failures):
        assert breaker.enter()
        breaker.fail()
    return breaker


def test_opens_after_failures_in_a_row(clock: Clock) -> None:
    breaker = Breaker(Settings(failures=3), clock)
    for outcome in (breaker.fail, breaker.fail, breaker.succeed, breaker.fail, breaker.fail):
        outcome()
        assert breaker.state == "closed"
    breaker.fail()
    assert (breaker.state, breaker.enter(), breaker.down_for) == ("open", False, 5.0)


def test_half_open_lets_one_request_through_and_closes_on_success(clock: Clock) -> None:
    breaker = broken(clock, Settings())
    clock.now += 5
    assert breaker.state == "half-open"
    assert breaker.enter()
    assert not breaker.enter()
    breaker.succeed()
    assert breaker.state == "closed"
    assert breaker.enter()
    assert breaker.enter()


def test_pause_doubles_up_to_its_cap(clock: Clock) -> None:
    breaker = broken(clock, Settings(open_seconds=5, open_seconds_most=18))
    pauses = []
    for _ in range(4):
        pauses.append(breaker.down_for)
        clock.now += breaker.down_for
        assert breaker.enter()
        breaker.fail()
    assert pauses == [5, 10, 18, 18]


def test_cancelled_try_frees_its_place(clock: Clock) -> None:
    breaker = broken(clock, Settings())
    clock.now += 5
    assert breaker.enter()
    breaker.leave()
    assert breaker.state == "half-open"
    assert breaker.enter()


def test_share_of_failures_opens_it_within_the_window_only(clock: Clock) -> None:
    settings = Settings(failures=1000, error_rate=0.5, window_requests=10, window_seconds=60)
    breaker = Breaker(settings, clock)
    for _ in range(4):
        breaker.succeed()
        breaker.fail()
    assert breaker.state == "closed"  # too few to tell
    breaker.succeed()
    breaker.fail()
    assert breaker.state == "open"

    calm = Breaker(settings, clock)
    for _ in range(9):
        calm.fail()
    clock.now += 70  # long ago
    for _ in range(9):
        calm.succeed()
    calm.fail()
    assert calm.state == "closed"


def test_retry_after_is_obeyed_up_to_its_cap_and_is_no_failure(clock: Clock) -> None:
    breaker = Breaker(Settings(retry_after_most=60), clock)
    breaker.pause(7)
    assert (breaker.state, breaker.down_for) == ("open", 7)
    clock.now += 7
    assert breaker.state == "closed"
    breaker.pause(1e9)
    assert breaker.down_for == 60
    breaker.pause(-5)
    assert breaker.down_for == 60


def test_failures_from_before_the_opening_do_not_prolong_it(clock: Clock) -> None:
    breaker = broken(clock, Settings())
    clock.now += 1
    breaker.fail()
    assert breaker.down_for == 4


@hypothesis_settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(["ask", "succeed", "fail", "pause", "leave", "wait"]), max_size=60))
def test_it_always_opens_up_again(events: list[str]) -> None:
    clock = Clock()
    settings = Settings()
    breaker = Breaker(settings, clock)
    inside = 0
    for event in events:
        match event:
            case "wait":
                clock.now += 3.7
            case "ask":
                inside += breaker.enter()
            case _ if inside:
                inside -= 1
                {"succeed": breaker.succeed, "fail": breaker.fail, "leave": breaker.leave}.get(
                    event, lambda: breaker.pause(30)
                )()
        assert breaker.down_for <= max(settings.open_seconds_most, settings.retry_after_most)
        assert len(breaker._slots) <= 11
    for _ in range(inside):
        breaker.leave()
    clock.now += settings.open_seconds_most
    assert breaker.enter()
