"""Budgets on a real SQLite file: never overspent by requests at the same time, kept over a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from appliance.config.routing import Budget
from appliance.errors import Overloaded
from appliance.records import SamplingParams
from appliance.routing.budgets import Amount, Budgets, Reservation
from tests.routing.conftest import platform, request, routing, run
from tests.routing.peers import Heard, Speaker, hear, make_router
from tests.upstream.behaviour import Behaviour, make_text
from tests.upstream.service import Service

StartService = Callable[..., Service]
DAY = 86_400.0
NOTHING = Amount(tokens=0, money=0)


class Wall:
    def __init__(self) -> None:
        self.now = 1000 * DAY

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
def open_budgets(tmp_path: Path, wall: Wall) -> Iterator[Callable[..., Budgets]]:
    opened: list[Budgets] = []

    def open_them(*budgets: Budget) -> Budgets:
        opened.append(Budgets(tmp_path / "budgets.db", budgets, wall))
        return opened[-1]

    yield open_them
    for each in opened:
        each.close()


def test_requests_at_once_never_overspend(open_budgets: Callable[..., Budgets]) -> None:
    budgets = open_budgets(Budget(scope="key", tokens=1000), Budget(scope="all", money=1.0))

    async def spend(number: int) -> int:
        found = await budgets.reserve(f"k{number % 2}", "cloud", Amount(tokens=90, money=9000))
        if isinstance(found, str):
            assert found == f"the budget of key k{number % 2} has too little left today"
            return 0
        await asyncio.sleep(0)
        await budgets.settle(found, Amount(tokens=90, money=9000))
        return 90

    async def all_at_once() -> list[int]:
        return await asyncio.gather(*(spend(number) for number in range(60)))

    assert sum(run(all_at_once())) == 2 * 990
    assert budgets.refusal("k0", "cloud") == ""


def test_settling_gives_back_what_was_not_used(open_budgets: Callable[..., Budgets]) -> None:
    budgets = open_budgets(Budget(scope="platform", name="cl*", tokens=100))

    async def spend() -> list[Reservation | str]:
        found = []
        for _ in range(4):
            found.append(await budgets.reserve("alice", "cloud", Amount(tokens=90, money=0)))
            if isinstance(found[-1], Reservation):
                await budgets.settle(found[-1], Amount(tokens=5, money=0))
        return found

    # Twice 90 fit and 5 are used; at the third time 10 are used, and 90 fit just so; then they do not.
    assert [isinstance(each, Reservation) for each in run(spend())] == [True, True, True, False]

    async def small() -> Reservation | str:
        return await budgets.reserve("alice", "cloud", Amount(tokens=85, money=0))

    assert isinstance(run(small()), Reservation)
    assert budgets.refusal("", "cloud") == "the day's 100 tokens of platform cloud are used up"
    assert budgets.refusal("", "other") == ""


def test_what_was_reserved_at_a_crash_counts_as_spent(
    open_budgets: Callable[..., Budgets], wall: Wall
) -> None:
    limit = Budget(scope="key", name="alice", money=1.0)
    first = open_budgets(limit)
    run(first.reserve("alice", "cloud", Amount(tokens=1, money=1_000_000)))
    first.close()
    second = open_budgets(limit)
    assert second.refusal("alice", "cloud") == "the day's 1 of key alice are used up"
    assert second.refusal("bob", "cloud") == ""
    wall.now += DAY
    assert second.refusal("alice", "cloud") == ""
    assert isinstance(run(second.reserve("alice", "cloud", Amount(tokens=1, money=9))), Reservation)


def test_over_budget_goes_local_with_the_reason(
    start_service: StartService, open_budgets: Callable[..., Budgets]
) -> None:
    service, text = start_service(), make_text(9)
    settings = routing(platform("cloud", service), budgets=[{"scope": "key", "tokens": 60}])
    budgets = open_budgets(*settings.budgets)
    router = make_router(settings, Speaker(text), budgets=budgets)
    asked = request(key="alice", sampling=SamplingParams(max_tokens=20))

    async def three_times() -> list[Heard]:
        return [await hear(router, asked) for _ in range(3)]

    first, second, third = run(three_times())
    assert first.text == service.text
    assert second.text == third.text == text
    assert second.route is not None
    assert "budget of key alice" in second.route.attempts[0].detail or "key alice" in second.route.reason


def test_nobody_but_an_empty_purse_is_told_to_the_client(
    start_service: StartService, open_budgets: Callable[..., Budgets]
) -> None:
    settings = routing(platform("cloud", start_service()), budgets=[{"scope": "all", "tokens": 10}])
    router = make_router(settings, None, budgets=open_budgets(*settings.budgets))
    heard = run(hear(router, request()))
    assert isinstance(heard.error, Overloaded)
    assert heard.error.detail_code == "budget_used_up"


def test_cut_answer_is_paid_for_and_failed_one_is_not(
    start_service: StartService, open_budgets: Callable[..., Budgets]
) -> None:
    text = make_text(9)
    cut = start_service(Behaviour(cut_after=50), text=text)
    ill = start_service(default=Behaviour(status=500))
    settings = routing(
        platform("ill", ill, model={"quality": 99}),
        platform("cut", cut),
        budgets=[{"scope": "platform", "tokens": 100_000}],
    )
    budgets = open_budgets(*settings.budgets)
    heard = run(hear(make_router(settings, Speaker(text), budgets=budgets), request()))
    assert heard.text == text
    used = {name: amount for (_, _, name), amount in budgets._used.items()}
    assert used["ill"].tokens == 0
    assert 10 < used["cut"].tokens < 100
