"""The router whole: reloads under load, offline without a client, health checks, discovery, custom
policies.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from appliance.config.routing import Routing
from appliance.errors import ConfigError, ModelNotFound, UnsupportedParameter
from appliance.records import RegexConstraint
from appliance.routing.explain import decision_text
from tests.routing.conftest import platform, request, routing, run
from tests.routing.peers import Heard, Speaker, hear, make_router
from tests.upstream.behaviour import Behaviour, make_text
from tests.upstream.service import Service

StartService = Callable[..., Service]
TEXT = make_text(6)


def test_reloads_under_load_fail_no_request(start_service: StartService) -> None:
    service = start_service(default=Behaviour(between=0.0002))
    one = routing(platform("cloud", service))
    other = routing(
        platform("cloud", service, key_env="TEST_KEY", model={"concurrency": 20}), hedge_seconds=9
    )
    router = make_router(one, Speaker(TEXT))

    async def load() -> tuple[list[Heard], int]:
        reloads = 0
        asking = [asyncio.ensure_future(hear(router, request())) for _ in range(10)]
        done: list[Heard] = []
        while len(done) < 60:
            router.reload((one, other)[reloads % 2])
            reloads += 1
            await asyncio.sleep(0.001)
            done += [task.result() for task in asking if task.done()]
            asking = [task for task in asking if not task.done()]
            asking += [asyncio.ensure_future(hear(router, request())) for _ in range(10 - len(asking))]
        return done + await asyncio.gather(*asking), reloads

    heard, reloads = run(load())
    assert reloads >= 10
    assert all(each.error is None and each.text == service.text for each in heard)


def test_bad_reload_changes_nothing(start_service: StartService) -> None:
    service = start_service()
    good = platform("cloud", service)
    router = make_router(routing(good), Speaker(TEXT))
    for bad in (
        routing(good, good),
        routing(platform("cloud", service, key_env="NOT_SET")),
        routing(good, aliases={"x": ["nothing"]}),
        routing(good, policy="custom", custom="missing.py"),
    ):
        with pytest.raises(ConfigError):
            router.reload(bad)
        assert run(hear(router, request())).text == service.text


def test_reload_keeps_breakers_of_what_did_not_change(start_service: StartService) -> None:
    service = start_service(default=Behaviour(status=500))
    settings = routing(platform("cloud", service), breaker={"failures": 1})
    router = make_router(settings, Speaker(TEXT))
    run(hear(router, request()))
    router.reload(msgspec.structs.replace(settings, hedge_seconds=5.0))
    assert router.figures()[1].places[0].breaker == "open"


def test_offline_builds_no_client_and_answers_locally(start_service: StartService) -> None:
    service = start_service()
    settings = msgspec.structs.replace(routing(platform("cloud", service, key_env="NOT_SET")), mode="offline")
    router = make_router(settings, Speaker(TEXT))
    assert router._setup.candidates.upstreams == {}
    heard = run(hear(router, request()))
    assert heard.text == TEXT
    assert heard.route is not None
    assert heard.route.reason == "local-only: a model of this machine"
    assert service.connections == 0
    with pytest.raises(ModelNotFound):
        router.open(request("cloud"))


def test_health_check_takes_an_ill_platform_out_and_discovers_models(start_service: StartService) -> None:
    well, gone = start_service(models=("big", "new", "other")), Service()
    ill = platform("ill", gone, health_seconds=0.05, model={"quality": 99})
    gone._socket.close()
    found = platform("well", well, health_seconds=0.05, discover=True, discover_only=["n*"])
    router = make_router(routing(ill, found, breaker={"failures": 2}), Speaker(TEXT))

    async def wait() -> Heard:
        router.start()
        async with asyncio.timeout(10):
            while (  # noqa: ASYNC110
                len(router.models()) < 4 or router.figures()[1].places[0].breaker != "open"
            ):
                await asyncio.sleep(0.01)
        heard = await hear(router, request())
        assert (await hear(router, request("well/new"))).text == well.text
        await router.close()
        return heard

    heard = run(wait())
    assert heard.text == well.text
    assert heard.outcomes == ["ok"]
    assert [model.public_name for model in router.models()] == ["small", "ill", "well", "well/new"]


def test_custom_policy_from_a_file(start_service: StartService, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "def order(facts, models, states):\n"
        "    if facts.key == 'bad': raise RuntimeError('oops')\n"
        "    return [(m, 'it is ' + m.name) for m in reversed(models)]\n"
    )
    service = start_service()
    settings = routing(platform("cloud", service), policy="custom", custom="mine.py")
    router = make_router(settings, Speaker(TEXT), directory=tmp_path)
    heard = run(hear(router, request()))
    assert heard.route is not None
    assert (heard.text, heard.route.reason) == (service.text, "custom: it is big")
    bad = run(hear(router, request(key="bad")))
    assert bad.route is not None
    assert "failed (RuntimeError)" in bad.route.reason
    assert bad.text == TEXT


@pytest.mark.parametrize(
    "content", ["def other(): pass", "order = 3", "import nothing_of_that_name", "syntax error"]
)
def test_bad_custom_policy_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "mine.py").write_text(content)
    with pytest.raises(ConfigError, match=r"routing\.custom"):
        make_router(Routing(policy="custom", custom="mine.py"), Speaker(TEXT), directory=tmp_path)


def test_fastest_learns_from_answers(start_service: StartService) -> None:
    slow, fast = start_service(default=Behaviour(before_text=0.15)), start_service()
    router = make_router(
        routing(
            platform("slow", slow),
            platform("fast", fast, model={"quality": 1}),
            policy="fastest",
            fallback=False,
            aliases={"online": ["slow", "fast"]},
        ),
        Speaker(TEXT),
    )

    async def several() -> list[str]:
        return [(await hear(router, request("online"))).text for _ in range(4)]

    texts = run(several())
    assert texts[0] == slow.text
    assert len(slow.requests) == 1
    assert len(fast.requests) == 3


def test_what_nobody_can_do_is_refused_before_anything_is_asked(start_service: StartService) -> None:
    service = start_service()
    router = make_router(routing(platform("cloud", service), fallback=False), Speaker(TEXT))
    with pytest.raises(UnsupportedParameter, match="regex or grammar"):
        router.open(request("cloud", constraint=RegexConstraint(pattern="a+")))
    assert "cloud (cloud): cannot do grammar" in decision_text(
        router.explain(request("cloud", constraint=RegexConstraint(pattern="a+")))
    )
    assert service.connections == 0
