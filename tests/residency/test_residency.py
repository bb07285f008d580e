"""A real server with more models than fit: loading on demand, leaving in turn, pins, and refusals."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest

from tests.conftest import require
from tests.serving import CHAT, Served, parse_events
from tests.tiny_server import StartTiny, held, long_answer


def test_models_take_turns_and_the_longest_unused_leaves(start_tiny: StartTiny) -> None:
    server = start_tiny(room_for=2)
    assert server.resident() == {"ada", "bob"}, "as many as fit are loaded at the start"
    assert [server.ask(name).status_code for name in ("ada", "bob", "ada")] == [200] * 3
    assert server.ask("cyd").status_code == 200
    assert server.resident() == {"ada", "cyd"}
    assert server.is_ready(), "a model that left for another is not missed"
    assert server.ask("bob").status_code == 200
    assert server.resident() == {"cyd", "bob"}
    assert len(psutil.Process(server.process.pid).children()) == 2
    server.stop()


def test_a_users_own_models_are_loaded_when_they_are_asked_for(start_tiny: StartTiny) -> None:
    server = start_tiny("pack=tiny", models=(), room_for=3, origin="file")
    assert server.resident() == set()
    assert server.ask("bob").status_code == 200
    assert server.resident() == {"bob"}


def test_what_can_never_fit_is_refused_within_a_second_with_the_numbers(
    start_tiny: StartTiny, tiny_bytes: int
) -> None:
    server = start_tiny("generator.pinned=ada", room_for=1)
    begun = time.monotonic()
    response = server.ask("bob")
    assert time.monotonic() - begun < 1
    assert response.status_code == 503
    error = response.json()["error"]
    assert error["code"] == "model_does_not_fit"
    assert response.headers["x-should-retry"] == "false"
    assert f"{tiny_bytes // 2**20} MiB" in error["message"]
    assert "pinned models (ada)" in error["message"]
    assert server.ask("ada").status_code == 200


def test_a_model_larger_than_the_budget_keeps_the_server_from_starting(
    start_tiny: StartTiny, tiny_bytes: int
) -> None:
    with pytest.raises(AssertionError, match=r"generator\.memory"):
        start_tiny(f"generator.memory={tiny_bytes // 10}")  # a half holds one that keeps no beginnings


def test_a_model_with_running_requests_is_waited_for_and_never_unloaded(start_tiny: StartTiny) -> None:
    server = start_tiny(room_for=1)
    with long_answer(server, "ada") as response, ThreadPoolExecutor(1) as pool:
        lines = response.iter_raw()
        raw = next(lines)
        asked = pool.submit(server.ask, "bob")
        raw += b"".join(lines)
        answer = asked.result(60)
    events, is_done = parse_events(raw)
    assert is_done
    assert events[-1]["choices"][0]["finish_reason"] == "length"
    assert answer.status_code == 200, answer.text
    assert server.resident() == {"bob"}


def test_who_waits_too_long_for_room_is_told_to_come_back(start_tiny: StartTiny) -> None:
    server = start_tiny("limits.load_wait=0.5", room_for=1)
    with long_answer(server, "ada"), held(server, "ada"):
        response = server.ask("bob")
    assert response.status_code == 503
    assert response.json()["error"]["code"] == "model_loading"
    assert "ada (1 running" in response.json()["error"]["message"]
    assert response.headers["retry-after"]
    server.wait_until(lambda: server.ask("bob").status_code == 200, seconds=20)


def test_a_busy_model_does_not_starve_the_one_that_waits(start_tiny: StartTiny) -> None:
    """Requests for one model that overlap without end: without a turn for the other it would never come."""
    server = start_tiny(room_for=1)
    stopped = threading.Event()
    statuses: list[int] = []

    def keep_busy() -> None:
        with httpx.Client(base_url=server.url, timeout=60, trust_env=False) as client:
            body = {"model": "ada", "prompt": "hi", "max_tokens": 60, "ignore_eos": True}
            while not stopped.is_set():
                statuses.append(client.post("/v1/completions", json=body).status_code)

    threads = [threading.Thread(target=keep_busy) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        answer = server.ask("bob")
    finally:
        stopped.set()
        for thread in threads:
            thread.join()
    assert answer.status_code == 200
    assert set(statuses) == {200}, "who was sent to the line is served as well"


@pytest.mark.parametrize(("keep_alive", "stays"), [(0, False), ("300ms", False), (-1, True), ("5m", True)])
def test_keep_alive_decides_how_long_an_unused_model_stays(
    start_tiny: StartTiny, keep_alive: float | str, stays: bool
) -> None:
    server = start_tiny(room_for=3)
    assert server.ask("ada", keep_alive=keep_alive).status_code == 200
    if stays:
        time.sleep(0.6)
        assert server.states()["ada"] == "ready"
    else:
        server.wait_for(ada="unloaded")
        assert server.is_ready()
        assert server.ask("ada").status_code == 200, "and comes back"


def test_the_latest_request_decides_how_long_a_model_stays(start_tiny: StartTiny) -> None:
    server = start_tiny(room_for=3)
    assert server.ask("ada", keep_alive=1).status_code == 200
    assert server.ask("ada", keep_alive=-1).status_code == 200
    time.sleep(1.3)
    assert server.states()["ada"] == "ready"


def test_keep_alive_is_also_a_setting_and_spares_pinned_models(start_tiny: StartTiny) -> None:
    server = start_tiny("generator.keep_alive=0.2", "generator.pinned=bob", room_for=3)
    assert [server.ask(name).status_code for name in ("ada", "bob")] == [200, 200]
    server.wait_for(ada="unloaded")
    time.sleep(0.3)
    assert server.states()["bob"] == "ready"


def test_a_wrong_keep_alive_is_named(start_tiny: StartTiny) -> None:
    server = start_tiny()
    response = server.ask("ada", keep_alive="a while")
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "keep_alive"


def test_embeddings_never_cost_a_chat_model_its_place(start_server: Callable[..., Served]) -> None:
    require(("all-minilm-l6-v2",))
    server = start_server(models=(CHAT, "all-minilm-l6-v2"))
    for _ in range(3):
        body = {"model": "all-minilm-l6-v2", "input": ["text"] * 64}
        assert server.http.post("/v1/embeddings", json=body).status_code == 200
    assert server.http.get(f"/v1/models/{CHAT}").json()["state"] == "ready"
