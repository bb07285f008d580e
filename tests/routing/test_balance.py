"""Instances: least work first, bounded queues, turns by key, nothing leaked by those who leave."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import pytest

from appliance.config.routing import Breaker
from appliance.routing.balance import Balancer
from appliance.routing.endpoint import parse_endpoint
from appliance.routing.failure import UpstreamFailure
from appliance.routing.registry import Instance, Model
from tests.routing.conftest import run


def balancer(*weights: float, **fields: object) -> Balancer:
    instances = tuple(
        Instance(endpoint=parse_endpoint(f"http://h{number}", "url"), weight=weight)
        for number, weight in enumerate(weights)
    )
    facts: dict[str, object] = {"platform": "p", "name": "m", "public_name": "m", "concurrency": 1}
    model = Model(**facts | {"instances": instances} | fields)  # type: ignore[arg-type]
    return Balancer(model, Breaker(failures=1), time.monotonic)


def test_least_work_for_its_weight_goes_first() -> None:
    found = balancer(1, 3, concurrency=100)

    async def take() -> Counter[str]:
        leases = [await found.acquire("", 10) for _ in range(40)]
        hosts = Counter(lease.instance.endpoint.host for lease in leases)
        for lease in leases:
            lease.end("succeed")
            lease.end("fail")  # the second word does not count
        return hosts

    assert run(take()) == {"h0": 10, "h1": 30}
    assert [place.running for place in found.places()] == [0, 0]


def test_a_big_backlog_of_one_key_delays_nobody_else() -> None:
    found = balancer(1, queue=100)
    order: list[str] = []

    async def ask(key: str) -> None:
        lease = await found.acquire(key, 1)
        order.append(key)
        await asyncio.sleep(0)
        lease.end("succeed")

    async def many() -> None:
        greedy = [asyncio.ensure_future(ask("greedy")) for _ in range(50)]
        await asyncio.sleep(0)
        modest = [asyncio.ensure_future(ask(key)) for key in ("a", "b")]
        await asyncio.gather(*greedy, *modest)

    run(many())
    assert order.index("a") <= 4
    assert order.index("b") <= 5
    assert len(order) == 52


def test_queue_is_bounded_in_number_and_time() -> None:
    found = balancer(1, queue=1, queue_seconds=0.05)

    async def overfill() -> None:
        lease = await found.acquire("", 1)
        waiting = asyncio.ensure_future(found.acquire("", 1))
        await asyncio.sleep(0)
        with pytest.raises(UpstreamFailure, match="wait for it already"):
            await found.acquire("", 1)
        with pytest.raises(UpstreamFailure, match="no instance was free"):
            await waiting
        assert found.waiting == 0
        lease.end("succeed")
        (await found.acquire("", 1)).end("succeed")

    run(overfill())


def test_those_who_leave_take_no_place_with_them() -> None:
    found = balancer(1, queue=10)

    async def leave() -> None:
        lease = await found.acquire("", 1)
        waiting = [asyncio.ensure_future(found.acquire(str(number % 2), 1)) for number in range(6)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await asyncio.sleep(0)
        lease.end("succeed")  # gives the place to the next in turn …
        for each in waiting[1:5]:
            each.cancel()  # … who leaves in the same moment
        last = await waiting[5]
        assert found.places()[0].running == 1
        last.end("succeed")
        assert found.places()[0].running == found.waiting == 0

    run(leave())


def test_broken_instances_get_nothing_and_waiters_are_told() -> None:
    found = balancer(1, queue=10)

    async def broken() -> None:
        lease = await found.acquire("", 1)
        waiting = asyncio.ensure_future(found.acquire("", 1))
        await asyncio.sleep(0)
        lease.end("fail")
        with pytest.raises(UpstreamFailure, match="every instance is paused") as raised:
            await waiting
        assert raised.value.retry_after is not None
        with pytest.raises(UpstreamFailure, match="every instance is paused"):
            await found.acquire("", 1)
        assert 0 < found.down_for <= 5

    run(broken())
