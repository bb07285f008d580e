"""Failover before the first text: every fault leads to the next candidate, seen by nobody, bounded and
accounted for.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from appliance.errors import (
    ContextLengthExceeded,
    DeadlineExceeded,
    HearthError,
    InvalidRequest,
    InvalidValue,
    Overloaded,
    Unavailable,
    WorkerLost,
)
from appliance.records import SamplingParams
from tests.routing.conftest import KEY, platform, request, routing, run
from tests.routing.peers import Counter, Heard, Speaker, hear, make_router
from tests.upstream.behaviour import FAULTS_BEFORE_TEXT, Behaviour, make_text
from tests.upstream.service import Service

StartService = Callable[..., Service]
TEXT = make_text(3)
BROKEN = Behaviour(status=500)


def test_online_answers_and_says_so(start_service: StartService) -> None:
    counter = Counter()
    service = start_service()
    settings = routing(platform("cloud", service, key_env="TEST_KEY"))
    router = make_router(settings, Speaker(TEXT), observer=counter)
    heard = run(hear(router, request(given=frozenset(["top_k"]))))
    assert heard.text == service.text
    assert heard.finishes == ["stop"]
    route = heard.route
    assert route is not None
    assert heard.route_at_start is not None
    assert (route.name, route.platform, route.model) == ("online", "cloud", "cloud")
    assert route.reason == heard.route_at_start.reason == "online-first: online, quality 90"
    assert heard.outcomes == ["ok"]
    assert heard.ended is not None
    assert heard.ended.usage.prompt_tokens == 7
    assert route.cost == pytest.approx((7 + 2 * heard.ended.usage.completion_tokens) / 1e6)
    assert counter.answers[0][0] == route
    assert 0 < heard.ended.timings.prefill < 5


@pytest.mark.parametrize("name", FAULTS_BEFORE_TEXT)
def test_every_fault_goes_to_the_local_model_unseen(start_service: StartService, name: str) -> None:
    service = start_service(default=FAULTS_BEFORE_TEXT[name])
    speaker = Speaker(TEXT)
    router = make_router(routing(platform("cloud", service, key_env="TEST_KEY")), speaker)
    heard = run(hear(router, request()))
    assert heard.error is None
    assert heard.text == TEXT
    assert heard.route is not None
    assert heard.route_at_start is not None
    assert heard.route.is_local
    assert "cloud failed: " in heard.route_at_start.reason
    assert heard.outcomes[-1] == "ok"
    assert 1 <= len(heard.outcomes) - 1 <= 2
    assert len(service.requests) <= 2
    assert KEY not in repr(heard.route)
    (place,) = router.figures()[1].places
    assert place.running == 0


def test_one_transient_failure_is_met_by_one_retry(start_service: StartService) -> None:
    service = start_service(BROKEN)
    heard = run(hear(make_router(routing(platform("cloud", service)), None), request()))
    assert heard.text == service.text
    assert heard.outcomes == ["server_error", "ok"]


def test_retry_takes_another_instance(start_service: StartService) -> None:
    ill, well = start_service(default=BROKEN), start_service()
    model = {"instances": [{"api_base_url": ill.url, "weight": 1000}, {"api_base_url": well.url}]}
    router = make_router(routing(platform("cloud", ill, model=model)), None)
    heard = run(hear(router, request()))
    assert heard.outcomes == ["server_error", "ok"]
    assert (len(ill.requests), len(well.requests)) == (1, 1)


def test_upstream_calls_are_bounded(start_service: StartService) -> None:
    service = start_service(default=BROKEN)
    many = [platform(f"p{number}", service) for number in range(8)]
    for calls in (1, 3, 5):
        service.requests.clear()
        heard = run(hear(make_router(routing(*many, calls=calls), Speaker(TEXT)), request()))
        assert heard.text == TEXT
        assert len(service.requests) == calls


def test_open_breaker_asks_nobody_and_says_why(start_service: StartService) -> None:
    service = start_service(default=BROKEN)
    router = make_router(routing(platform("cloud", service), breaker={"failures": 2}), Speaker(TEXT))

    async def twice() -> tuple[Heard, Heard]:
        return await hear(router, request()), await hear(router, request())

    first, second = run(twice())
    assert len(service.requests) == 2
    assert first.text == second.text == TEXT
    assert second.outcomes == ["ok"]
    assert second.route is not None
    assert "cloud: keeps failing" in second.route.reason


def test_retry_after_is_obeyed(start_service: StartService) -> None:
    service = start_service(Behaviour(status=429, headers=(("retry-after", "30"),)))
    router = make_router(routing(platform("cloud", service)), None)

    async def twice() -> Heard:
        heard = await hear(router, request())
        assert isinstance(heard.error, Overloaded)
        assert heard.error.retry_after == 30
        with pytest.raises(Unavailable) as raised:
            router.open(request())
        assert raised.value.retry_after in (29, 30)
        return heard

    assert run(twice()).outcomes == ["rate_limited"]


def test_hedge_asks_the_next_and_closes_the_loser(start_service: StartService) -> None:
    slow, fast = start_service(default=Behaviour(before_text=0.3)), start_service()
    router = make_router(
        routing(
            platform("slow", slow, first_byte_seconds=5, between_bytes_seconds=5),
            platform("fast", fast, model={"quality": 10}),
            hedge_seconds=0.05,
        ),
        None,
    )

    async def ask() -> Heard:
        heard = await hear(router, request())
        async with asyncio.timeout(5):
            while slow.running:  # noqa: ASYNC110  the service is in another thread
                await asyncio.sleep(0.005)
        return heard

    heard = run(ask())
    assert heard.text == fast.text
    assert heard.route is not None
    assert heard.route.model == "fast"
    assert slow.requests[0].was_left
    assert sorted(heard.outcomes) == ["left", "ok"]
    assert all(place.running == 0 for figures in router.figures() for place in figures.places)


def test_cancelled_request_closes_its_upstream(start_service: StartService) -> None:
    service = start_service(default=Behaviour(between=0.02))
    router = make_router(routing(platform("cloud", service)), Speaker(TEXT))

    async def leave() -> float:
        await hear(router, request(), until=lambda heard: len(heard.text) > 20)
        left_at = time.monotonic()
        async with asyncio.timeout(5):
            while service.running:  # noqa: ASYNC110
                await asyncio.sleep(0.002)
        return time.monotonic() - left_at

    assert run(leave()) < 0.5
    assert service.requests[0].was_left
    assert router.figures()[1].places[0].running == 0


def test_deadline_ends_it_all(start_service: StartService) -> None:
    service = start_service(default=Behaviour(before_head=60))
    slow = platform("cloud", service, first_byte_seconds=30)
    heard = run(hear(make_router(routing(slow), Speaker(TEXT)), request(deadline=0.2)))
    assert isinstance(heard.error, DeadlineExceeded)


@pytest.mark.parametrize("error", [WorkerLost("dead"), Overloaded("full"), ContextLengthExceeded("long")])
def test_local_first_goes_online_when_the_local_model_cannot(
    start_service: StartService, error: HearthError
) -> None:
    service = start_service()
    settings = routing(platform("cloud", service), policy="local-first")
    heard = run(hear(make_router(settings, Speaker(TEXT, error=error)), request()))
    assert heard.text == service.text
    assert heard.outcomes == ["local", "ok"]


def test_clients_own_mistake_is_told_at_once(start_service: StartService) -> None:
    service = start_service()
    mistake = InvalidValue("messages must alternate", param="messages")
    settings = routing(platform("cloud", service), policy="local-first")
    heard = run(hear(make_router(settings, Speaker(TEXT, error=mistake)), request()))
    assert heard.error is mistake
    assert not service.requests


def test_refusal_by_all_is_the_clients_error_without_the_key(start_service: StartService) -> None:
    service = start_service(default=Behaviour(status=400))
    router = make_router(routing(platform("cloud", service, key_env="TEST_KEY")), None)
    heard = run(hear(router, request()))
    assert isinstance(heard.error, InvalidRequest)
    assert "scripted 400 for Bearer …" in heard.error.message


def test_concurrency_is_kept_and_all_are_served(start_service: StartService) -> None:
    service = start_service(default=Behaviour(between=0.0005))
    router = make_router(routing(platform("cloud", service, model={"concurrency": 3, "queue": 50})), None)

    async def many() -> list[Heard]:
        asking = (hear(router, request(key=f"k{number % 4}")) for number in range(20))
        return await asyncio.gather(*asking)

    assert {heard.text for heard in run(many())} == {service.text}
    assert service.most_running <= 3


def test_full_queue_goes_to_the_local_model(start_service: StartService) -> None:
    service = start_service(default=Behaviour(between=0.002))
    settings = routing(platform("cloud", service, model={"concurrency": 1, "queue": 1}))
    router = make_router(settings, Speaker(TEXT))

    async def many() -> list[Heard]:
        return await asyncio.gather(*(hear(router, request()) for _ in range(5)))

    texts = [heard.text for heard in run(many())]
    assert texts.count(service.text) == 2
    assert texts.count(TEXT) == 3


def test_max_tokens_and_local_only_reach_the_local_model(start_service: StartService) -> None:
    service, speaker = start_service(), Speaker(TEXT)
    router = make_router(routing(platform("cloud", service)), speaker)
    asked = request(is_local_only=True, sampling=SamplingParams(max_tokens=9), deadline=5.0)
    heard = run(hear(router, asked))
    assert heard.text == TEXT
    assert not service.requests
    assert speaker.asked[0] == (asked, "")
    assert speaker.closed == 1
