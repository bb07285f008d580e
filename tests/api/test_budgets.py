"""Budgets through a whole server: what is spent is counted by the service's own word, and never twice."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.clients.routed import platform, services, serving, write_settings
from tests.conftest import require
from tests.serving import CHAT, Served, chat_body
from tests.upstream.behaviour import Behaviour, make_text
from tests.upstream.service import Service

TEXT = make_text(3, 60)
ANSWER_TOKENS = 20  # that each request allows itself; the service says how many it really used


@pytest.fixture
def service() -> Iterator[Service]:
    require([CHAT])
    with services(TEXT) as (started,):
        yield started


def settings(home: Path, service: Service, **budget: object) -> None:
    write_settings(
        home,
        platform("cloud", service.url, 90, model={"price_in": 0.0, "price_out": 1_000_000.0}),
        budgets=[{"scope": "platform", "name": "cloud", **budget}],
    )


def ask(server: Served) -> httpx.Response:
    response = server.http.post(
        "/v1/chat/completions", json=chat_body("Say it.", max_tokens=ANSWER_TOKENS) | {"model": "auto"}
    )
    assert response.status_code == 200, response.text
    return response


def spent(answers: list[httpx.Response]) -> int:
    online = [each for each in answers if each.headers["x-hearth-route"] == "online"]
    return sum(each.json()["usage"]["total_tokens"] for each in online)


def test_over_budget_the_local_model_answers_and_a_restart_forgets_nothing(
    service: Service, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    settings(home, service, tokens=100)
    with serving(home) as server:
        answers = []
        while (answer := ask(server)).headers["x-hearth-route"] == "online":
            answers.append(answer)
            assert len(answers) < 20, "the budget is never used up"
        assert answers
        assert spent(answers) <= 100
        asked = len(service.requests)
        assert answer.headers["x-hearth-reason"].startswith("online-first: local")
        assert "cloud failed: over_budget" in answer.headers["x-hearth-reason"]
        outcomes = [each["outcome"] for each in answer.json()["usage"]["hearth"]["attempts"]]
        assert outcomes == ["over_budget", "ok"]
    with serving(home) as server:
        again = ask(server)
        assert again.headers["x-hearth-route"] == "local"
        assert "over_budget" in again.headers["x-hearth-reason"]
    assert len(service.requests) == asked, "what is over budget is not asked"


def test_many_at_once_do_not_overspend(service: Service, tmp_path: Path) -> None:
    """Each answer costs as many tokens as it has pieces, and a token costs 1."""
    service.default = Behaviour(between=0.01)
    home = tmp_path / "home"
    settings(home, service, money=100.0)
    with serving(home) as server, ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: ask(server), range(32)))
    online = [each for each in answers if each.headers["x-hearth-route"] == "online"]
    assert 2 <= len(online) < 32
    cost = sum(each.json()["usage"]["hearth"]["cost"] for each in online)
    assert 0 < cost <= 100.0
    for answer in answers:
        if answer not in online:
            reason = answer.headers["x-hearth-reason"]
            assert "cloud failed: over_budget" in reason or "are used up" in reason


def test_a_budget_of_nobody_else_binds_nobody_else(service: Service, tmp_path: Path) -> None:
    home = tmp_path / "home"
    write_settings(
        home,
        platform("cloud", service.url, 90),
        budgets=[{"scope": "key", "name": "somebody-else", "tokens": 1}],
    )
    with serving(home) as server:
        assert [ask(server).headers["x-hearth-route"] for _ in range(3)] == ["online"] * 3
