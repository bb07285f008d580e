"""Every policy, hedging, breakers and Retry-After, through a whole server whose settings change meanwhile."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.clients.routed import BREAKER, CAPABILITIES, platform, services, serving, write_settings
from tests.conftest import require
from tests.serving import CHAT, EMBED, Served, chat_body
from tests.upstream.behaviour import HEALTHY, Behaviour
from tests.upstream.service import Service

MODELS = {  # quality, price of the answer's tokens
    "dear": (90, 9.0),
    "good": (70, 3.0),
    "plain": (40, 1.0),
}
CUSTOM = """
def order(facts, models, states):
    return [(model, "my own") for model in models if model.public_name == "plain"]
"""


class House:
    def __init__(self, server: Served, online: dict[str, Service], home: Path) -> None:
        self.server, self.online, self._home = server, online, home
        self._version = 0

    def set(self, **routing: Any) -> None:
        """New settings for `[routing]`, taken by the running server."""
        self._version += 1
        marker = f"version-{self._version}"
        fields = {"breaker": BREAKER} | routing | {"aliases": {marker: [CHAT], **routing.pop("aliases", {})}}
        platforms = [
            platform(
                name, self.online[name].url, quality, model={"price_out": price, "capabilities": CAPABILITIES}
            )
            for name, (quality, price) in MODELS.items()
        ]
        write_settings(self._home, *platforms, **fields)

        def is_taken() -> bool:
            error = self.server.http.get("/admin/v1/config").json()["error"]
            assert error is None, error
            return marker in self.server.http.get("/admin/v1/routing").json()["aliases"]

        self.server.wait_until(is_taken, 10)

    def ask(self, model: str = "auto", headers: dict[str, str] | None = None) -> httpx.Response:
        body = chat_body(max_tokens=2) | {"model": model}
        response = self.server.http.post("/v1/chat/completions", json=body, headers=headers or {})
        assert response.status_code == 200, response.text
        return response

    def explain(self, **request: Any) -> dict[str, Any]:
        found: dict[str, Any] = self.server.http.post("/admin/v1/routing/explain", json=request).json()
        return found

    def answers(self, **given: Any) -> str:
        return self.ask(**given).headers["x-hearth-model"]

    def place(self, name: str) -> dict[str, Any]:
        models = self.server.http.get("/admin/v1/routing").json()["models"]
        found: dict[str, Any] = next(model for model in models if model["id"] == name)["places"][0]
        return found


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    require([CHAT, EMBED])
    home = tmp_path_factory.mktemp("policies") / "home"
    with services(*["From afar."] * len(MODELS)) as started:
        online = dict(zip(MODELS, started, strict=True))
        write_settings(home, platform("dear", online["dear"].url))
        (home / "mine.py").write_text(CUSTOM)
        with serving(home, f"models={CHAT},{EMBED}") as server:
            yield House(server, online, home)


@pytest.fixture(autouse=True)
def well(house: House) -> Iterator[None]:
    yield
    for service in house.online.values():
        service.default = HEALTHY


@pytest.mark.parametrize(
    ("routing", "first", "reason"),
    [
        ({"policy": "local-only"}, CHAT, "local-only: a model of this machine"),
        ({"policy": "local-first"}, CHAT, "local-first: local, quality 30"),
        ({"policy": "online-first"}, "dear", "online-first: online, quality 90"),
        ({"policy": "best", "local_quality": 95}, CHAT, "best: quality 95"),
        ({"policy": "cheapest", "quality_floor": 60}, "good", "cheapest: about"),
        ({"policy": "custom", "custom": "mine.py"}, "plain", "custom: my own"),
        ({"policy": "split", "split": {"good": 1.0}}, "good", "split: arm good, kept by conversation"),
    ],
)
def test_each_policy_decides(house: House, routing: dict[str, Any], first: str, reason: str) -> None:
    house.set(**routing)
    answer = house.ask()
    assert answer.headers["x-hearth-model"] == first
    assert answer.headers["x-hearth-reason"].startswith(reason)


def test_the_fastest_is_found_by_measuring(house: House) -> None:
    house.set(policy="fastest")
    for name in ("dear", "good"):
        house.online[name].default = Behaviour(before_text=0.25)
    house.server.wait_until(lambda: house.answers() == "plain", 20)
    assert house.ask().headers["x-hearth-reason"].startswith("fastest: about")


def test_a_conversation_keeps_its_arm_and_arms_are_compared(house: House) -> None:
    house.set(policy="split", split={"dear": 1.0, "plain": 1.0})
    arms = Counter()
    for number in range(24):
        headers = {"x-hearth-conversation": f"talk {number}"}
        said = {house.answers(headers=headers) for _ in range(2)}
        assert len(said) == 1
        arms[said.pop()] += 1
    assert set(arms) == {"dear", "plain"}
    assert min(arms.values()) >= 4
    told = house.server.http.get("/admin/v1/routing").json()["arms"]
    assert all(
        told[arm]["answers"] >= 2 * count and told[arm]["total_p50"] > 0 for arm, count in arms.items()
    )


def test_rules_go_by_task_model_and_base_and_the_header_by_leave(house: House) -> None:
    house.set(
        policy="online-first",
        rules=[
            {"task": "code", "policy": "best", "models": ["plain"]},
            {"model": "quick-*", "policy": "cheapest"},
            {"base": "secret-*", "policy": "local-only"},
        ],
        aliases={"quick-*": ["*"]},
        local_only_bases=["vault"],
    )
    assert house.answers(headers={"x-hearth-task": "code"}) == "plain"
    assert house.answers(model="quick-one") == CHAT, "this machine's are free"
    assert house.answers(headers={"x-hearth-policy": "local-first"}) == CHAT
    for name in ("secret-plans", "vault"):
        made = house.server.http.post("/v1/vector_stores", json={"name": name}).json()
        explained = house.explain(knowledge=name, policy="best")
        assert explained["policy"] == "local-only"
        assert {each["why"] for each in explained["rejected"]} == {"forbidden"}
        house.server.http.delete(f"/v1/vector_stores/{made['id']}")


def test_a_base_that_says_so_never_leaves_and_the_dry_run_knows(house: House) -> None:
    house.set(policy="online-first")
    base = {"name": "mine", "metadata": {"routing": "local-only"}}
    made = house.server.http.post("/v1/vector_stores", json=base).json()
    assert [each["route"] for each in house.explain(knowledge="mine")["candidates"]] == ["local"]
    missing = house.server.http.post("/admin/v1/routing/explain", json={"knowledge": "nowhere"})
    assert missing.status_code == 404
    house.server.http.delete(f"/v1/vector_stores/{made['id']}")


def test_what_no_model_that_may_answer_can_do_is_named(house: House) -> None:
    house.set(policy="best", fallback=False, aliases={"afar": ["dear"]})
    for needs in ("vision", "logprobs", "tools", "schema"):
        able = [each["model"] for each in house.explain(model="afar", needs=[needs])["candidates"]]
        assert able == (["dear"] if needs in CAPABILITIES else [])
    body = chat_body(logprobs=True) | {"model": "afar"}
    refused = house.server.http.post("/v1/chat/completions", json=body)
    error = refused.json()["error"]
    assert refused.status_code == 400
    assert (error["param"], error["code"]) == ("logprobs", "unsupported_capability")


def test_a_silent_model_is_hedged(house: House) -> None:
    house.set(policy="online-first", hedge_seconds=0.05)
    house.online["dear"].default = Behaviour(before_head=0.4)
    begun = time.monotonic()
    answer = house.ask()
    assert time.monotonic() - begun < 0.4
    assert answer.headers["x-hearth-model"] == "good"
    assert "dear/dear left" in answer.headers["x-hearth-attempts"]


def test_breaker_opens_closes_and_is_shown(house: House) -> None:
    house.set(
        policy="online-first",
        breaker={"failures": 2, "open_seconds": 0.5, "window_requests": 1000, "retry_after_most": 1.0},
    )
    asked = len(house.online["dear"].requests)
    house.online["dear"].default = Behaviour(status=500)
    assert house.answers() == "good"
    assert house.place("dear")["breaker"] == "open"
    assert "hearth_instance_breaker{" in house.server.http.get("/metrics").text
    answer = house.ask()
    assert "dear: keeps failing" in answer.headers["x-hearth-reason"]
    assert len(house.online["dear"].requests) == asked + 2, "nobody asks what is open"
    house.online["dear"].default = HEALTHY
    house.server.wait_until(lambda: house.answers() == "dear", 5)
    assert house.place("dear")["breaker"] == "closed"


def test_retry_after_is_waited_for_up_to_its_cap(house: House) -> None:
    house.set(
        policy="online-first", breaker={"failures": 1000, "window_requests": 1000, "retry_after_most": 0.6}
    )
    house.online["dear"].script(Behaviour(status=429, headers=(("retry-after", "3600"),)))
    begun = time.monotonic()
    assert house.answers() == "good"
    assert house.answers() == "good", "it asked for a pause"
    house.server.wait_until(lambda: house.answers() == "dear", 5)
    assert 0.5 < time.monotonic() - begun < 4
