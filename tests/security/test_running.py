"""What runs with a credential is told of its end: once, in time, and nobody else is."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from appliance.security import running as room
from appliance.security.running import Running


def in_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(**fixtures: Any) -> None:
        asyncio.run(test(**fixtures))

    return run


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@in_loop
async def test_ended_ones_are_told_once_and_others_not() -> None:
    running = Running()
    told: list[str] = []
    with running.hold("a", told.append), running.hold("a", told.append), running.hold("b", told.append):
        assert running.end("a", "over") == 2
        assert running.end("a", "over") == 0
        assert running.end("nobody", "over") == 0
    assert told == ["over", "over"]


@in_loop
async def test_what_is_over_is_not_told() -> None:
    running = Running()
    told: list[str] = []
    with running.hold("a", told.append):
        pass
    assert running.end("a", "late") == 0
    assert told == []


@in_loop
async def test_one_that_is_over_leaves_the_others_of_its_credential() -> None:
    running = Running()
    told: list[str] = []
    with running.hold("a", told.append):
        with running.hold("a", lambda reason: told.append(f"not {reason}")):
            pass
        assert running.end("a", "over") == 1
    assert told == ["over"]


@in_loop
async def test_all_that_belong_are_told() -> None:
    running = Running()
    told: list[str] = []
    with running.hold("jwt:a", told.append), running.hold("key_b", told.append):
        assert running.end_all(lambda credential: credential.startswith("jwt:"), "gone") == 1
    assert told == ["gone"]


@in_loop
async def test_an_expiry_is_noticed_though_the_clock_was_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "CHECK_SECONDS", 0.01)
    clock = Clock()
    running = Running(clock)
    ended = asyncio.Event()
    with running.hold("a", lambda reason: ended.set(), clock.now + 86_400):
        await asyncio.sleep(0.03)
        assert not ended.is_set()
        clock.now += 86_400  # a day at once
        await asyncio.wait_for(ended.wait(), 1)


@in_loop
async def test_an_expiry_can_be_put_off_and_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "CHECK_SECONDS", 0.01)
    clock = Clock()
    running = Running(clock)
    told: list[str] = []
    with running.hold("a", told.append, clock.now + 1):
        running.expire("a", clock.now + 100)
        clock.now += 50
        await asyncio.sleep(0.03)
        running.expire("a", None)
        clock.now += 1000
        await asyncio.sleep(0.03)
        running.expire("nobody", clock.now)
    assert told == []


@in_loop
async def test_one_that_expired_before_is_told_at_once() -> None:
    clock = Clock()
    running = Running(clock)
    told: list[str] = []
    with running.hold("a", told.append, clock.now):
        assert told == ["the credential has expired"]
