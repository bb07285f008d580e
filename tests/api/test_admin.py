"""/admin/v1 through the typed client, on a real server: models, requests, status."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest

from appliance.admin import ModelStatus, ServerStatus
from appliance.client import Client, RemoteError
from appliance.config.schema import Generator
from appliance.orders import cell_bytes
from models.gguf import read_gguf
from models.store import Store
from tests.serving import CHAT, EMBED, Served, parse_events, store_directory
from tests.tiny_server import StartTiny, TinyServer, held, long_answer


@pytest.fixture
def tiny(start_tiny: StartTiny) -> TinyServer:
    return start_tiny(room_for=2)


@pytest.fixture
def client(tiny: TinyServer) -> Iterator[Client]:
    with Client(tiny.url) as client:
        yield client


def by_name(client: Client) -> dict[str, ModelStatus]:
    return {status.name: status for status in client.model_statuses().data}


# Models


def test_models_are_listed_with_what_they_take_and_whether_they_are_there(
    tiny: TinyServer, client: Client, tiny_bytes: int
) -> None:
    found = by_name(client)
    assert {name: status.state for name, status in found.items()} == {
        "ada": "ready",
        "bob": "ready",
        "cyd": "unloaded",
    }
    for status in found.values():
        assert status.bytes_estimated == tiny_bytes
        assert (status.running, status.waiting, status.is_pinned, status.error) == (0, 0, False, None)
        assert (status.keep_alive, status.cells, status.context_length) == (-1, 512, 512)
    assert client.model_statuses().memory_resident == 2 * tiny_bytes
    assert client.model_status("ada") == found["ada"]
    assert found["ada"].last_used is None
    assert tiny.ask("ada").status_code == 200
    assert client.model_status("ada").last_used is not None


def test_a_model_is_loaded_and_unloaded_on_demand(client: Client) -> None:
    assert client.unload_model("ada").state == "unloaded"
    assert client.unload_model("ada").state == "unloaded", "twice is as good as once"
    status = client.load_model("cyd", wait=30)
    assert (status.state, status.progress) == ("ready", 1.0)
    assert client.model_status("bob").state == "ready", "there was room"
    begun = client.load_model("ada")
    assert begun.state in ("waiting", "loading"), "without waiting, the answer is how far it is"
    status = client.load_model("ada", wait=30, keep_alive="10m")
    assert status.state == "ready"
    assert status.keep_alive == 600
    assert status.expires_at is not None


def test_a_pinned_model_stays_and_is_not_unloaded_by_mistake(tiny: TinyServer, client: Client) -> None:
    assert client.pin_model("ada").is_pinned
    assert tiny.ask("cyd").status_code == 200
    assert client.model_status("bob").state == "unloaded", "ada was unused longer, but is pinned"
    with pytest.raises(RemoteError, match="pinned") as caught:
        client.unload_model("ada", force=True)
    assert caught.value.detail_code == "conflict"
    assert not client.pin_model("ada", pinned=False).is_pinned
    assert client.unload_model("ada").state == "unloaded"


def test_a_busy_model_is_unloaded_by_force_only(tiny: TinyServer, client: Client) -> None:
    with long_answer(tiny, "ada") as response:
        lines = response.iter_raw()
        raw = next(lines)
        with held(tiny, client.model_status("ada").worker):
            with pytest.raises(RemoteError, match="requests: 1"):
                client.unload_model("ada")
            with ThreadPoolExecutor(1) as pool:
                unloading = pool.submit(httpx.post, f"{tiny.url}/admin/v1/models/ada/unload?force=true")
                raw += b"".join(lines)
        assert unloading.result(30).json()["state"] == "unloaded"
    events, is_done = parse_events(raw)
    assert not is_done
    assert events[-1]["error"]["code"] == "cancelled"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/admin/v1/models/nobody", 404),
        ("POST", "/admin/v1/models/nobody/load", 404),
        ("POST", "/admin/v1/models/smollm2-135m-instruct/load?wait=-1", 400),
        ("POST", "/admin/v1/models/smollm2-135m-instruct/load?keep_alive=soon", 400),
        ("POST", "/admin/v1/models/smollm2-135m-instruct/load?speed=1", 400),
        ("POST", "/admin/v1/models/smollm2-135m-instruct/unload?force=perhaps", 400),
        ("POST", "/admin/v1/requests/act-0/cancel", 404),
        ("DELETE", "/admin/v1/models/nobody", 405),
    ],
)
def test_what_is_not_there_or_not_understood_is_refused(
    server: Served, method: str, path: str, status: int
) -> None:
    assert server.http.request(method, path).status_code == status


def test_an_embedding_model_is_shown_and_left_alone(server: Served) -> None:
    with Client(server.url) as client:
        status = client.model_status(EMBED)
        assert (status.state, status.worker, status.role) == ("ready", "encoder", "embed")
        with pytest.raises(RemoteError, match="only chat models"):
            client.unload_model(EMBED)


# Requests


def test_a_request_is_listed_while_it_runs_and_ends_when_it_is_cancelled(
    tiny: TinyServer, client: Client
) -> None:
    with long_answer(tiny, "ada") as response:
        lines = response.iter_raw()
        raw = next(lines)
        with held(tiny, "ada"):
            (request,) = client.active_requests()
            assert (request.kind, request.model, request.phase) == ("generate", "ada", "running")
            assert request.request == response.headers["x-request-id"]
            assert request.prompt_tokens > 0
            assert client.model_status("ada").running == 1
            assert client.cancel_request(request.id) == 1
            raw += b"".join(lines)
    events, is_done = parse_events(raw)
    assert not is_done
    assert events[-1]["error"]["code"] == "cancelled"
    tiny.wait_until(lambda: not client.active_requests(), seconds=5)
    assert tiny.ask("ada").status_code == 200, "its slot is free again"


def test_a_request_that_waits_for_its_model_can_be_cancelled_by_its_http_id(
    tiny: TinyServer, client: Client
) -> None:
    client.pin_model("bob")
    with long_answer(tiny, "ada"), held(tiny, "ada"), ThreadPoolExecutor(1) as pool:
        body = {"model": "cyd", "prompt": "hi", "max_tokens": 2}
        url, headers = f"{tiny.url}/v1/completions", {"x-request-id": "mine"}
        asked = pool.submit(httpx.post, url, json=body, headers=headers, timeout=60)
        tiny.wait_until(lambda: any(each.model == "cyd" for each in client.active_requests()), seconds=5)
        (waiting,) = [each for each in client.active_requests() if each.model == "cyd"]
        assert waiting.phase == "loading"
        assert client.model_status("cyd").state == "waiting"
        assert client.cancel_request("mine") == 1
        answer = asked.result(30)
    assert (answer.status_code, answer.json()["error"]["code"]) == (499, "cancelled")


# Status


def test_the_status_tells_what_a_screen_needs(server: Served) -> None:
    for _ in range(3):
        assert server.chat(max_tokens=4).status_code == 200
    with Client(server.url) as client:
        status = client.status()
    assert isinstance(status, ServerStatus)
    assert (status.health, status.pid) == ("ready", server.process.pid)
    assert status.uptime > 0
    assert {worker.name for worker in status.workers} == {CHAT, "encoder"}
    for worker in status.workers:
        assert worker.pid is not None
        assert psutil.pid_exists(worker.pid)
        assert worker.memory_rss is not None
        assert worker.memory_pss is not None
        assert 0 < worker.memory_pss <= worker.memory_rss
    (generator,) = [worker for worker in status.workers if worker.role == "generator"]
    assert (generator.running, generator.waiting, generator.slots) == (0, 0, 16)
    assert generator.cells is not None
    assert generator.cells_used is not None
    assert 0 < generator.cells_used <= generator.cells
    (speed,) = status.speeds
    assert speed.answers >= 3
    assert speed.first_token_p50 is not None
    assert speed.first_token_p99 is not None
    assert 0 < speed.first_token_p50 <= speed.first_token_p99
    assert 0 < status.memory.models_resident <= status.memory.models < status.memory.total


def test_a_models_estimate_is_near_what_its_worker_takes(server: Served) -> None:
    """Once its cache is full: the pages that nothing was written to are not taken."""
    with Client(server.url) as client:
        status = client.status()
    (worker,) = [worker for worker in status.workers if worker.name == CHAT]
    (model,) = [model for model in status.models if model.name == CHAT]
    assert worker.memory_pss is not None
    assert worker.cells is not None
    cache = worker.cells * cell_bytes(read_gguf(Store(store_directory()).path(CHAT, "model.gguf")), "f16")
    unfilled = Generator().prefix_memory  # counted, but taken only as beginnings are stored
    assert 0.7 < (model.bytes_estimated - unfilled) / (worker.memory_pss + cache) < 1.5


def test_what_is_wrong_comes_with_advice(tiny: TinyServer, client: Client) -> None:
    assert [each for each in client.status().advice if each.subject != "memory"] == []
    worker = next(each for each in client.status().workers if each.name == "ada")
    assert worker.pid is not None
    os.kill(worker.pid, 9)
    tiny.wait_until(lambda: any(each.restarts for each in client.status().workers), seconds=10)
    (told,) = [each for each in client.status().advice if each.subject == "ada"]
    assert "started again once" in told.message
    assert told.advice


def test_the_status_is_answered_while_a_worker_stands_still(tiny: TinyServer, client: Client) -> None:
    with held(tiny, "ada"):
        workers = {worker.name: worker for worker in client.status().workers}
    assert workers["ada"].slots is None
    assert workers["bob"].slots == 16
