"""kill -9 of real workers under real requests, and what comes of those.

A request that has said nothing is sent once more; one that has ends in a typed error. The gateway answers
all the while.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import psutil
import pytest

from tests.conftest import require
from tests.serving import CHAT, EMBED, RERANK, Served, chat_body, parse_events

LONG_PROMPT = {"model": CHAT, "prompt": list(range(1000, 8000)), "max_tokens": 1, "temperature": 0}


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    require((CHAT, EMBED, RERANK))
    served = Served(tmp_path_factory.mktemp("mortal") / "home", (CHAT, EMBED, RERANK))
    try:
        served.wait_ready()
        yield served
        served.stop()
    finally:
        served.end()


@pytest.fixture
def whole(mortal: Served) -> Served:
    """The server with all its workers up, whatever the test before has done to them."""
    mortal.wait_ready()
    return mortal


def restarts(served: Served, worker: str = CHAT) -> int:
    count: int = served.http.get("/readyz").json()["workers"][worker]["restarts"]
    return count


@contextlib.contextmanager
def waiting(ask: Callable[[], httpx.Response]) -> Iterator[Future[httpx.Response]]:
    """`ask` on a thread of its own."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(ask)


@contextlib.contextmanager
def held(worker: psutil.Process) -> Iterator[psutil.Process]:
    """A worker that takes requests in but does not get to them."""
    worker.suspend()
    try:
        yield worker
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            worker.resume()


def wait_for_open_requests(served: Served, count: int) -> None:
    def has_come() -> bool:
        found = served.http.get("/metrics").text
        return f"concurrent_session_count {count + 1}.0\n" in found  # the metrics request itself counts

    served.wait_until(has_come, seconds=5)


def test_an_idle_worker_comes_back(whole: Served) -> None:
    before = restarts(whole)
    old = whole.worker("generator")
    old.kill()
    whole.wait_until(lambda: not whole.is_ready(), seconds=5)
    assert whole.http.get("/healthz").json() == {"status": "ok"}
    readiness = whole.http.get("/readyz")
    assert (readiness.status_code, readiness.json()["status"]) == (503, "not_ready")
    assert readiness.json()["workers"]["encoder"]["state"] == "ready"
    assert whole.http.get(f"/v1/models/{CHAT}").json()["state"] in ("down", "loading")
    assert whole.chat(max_tokens=2).status_code == 200, "a request waits for the new worker"
    assert restarts(whole) == before + 1
    assert whole.has_new_worker("generator", old)


@pytest.mark.parametrize("streamed", [False, True])
def test_a_request_without_output_is_sent_once_more(whole: Served, streamed: bool) -> None:
    body = chat_body(max_tokens=3, temperature=0, stream=streamed)
    with (
        held(whole.worker("generator")) as worker,
        waiting(lambda: httpx.post(f"{whole.url}/v1/chat/completions", json=body, timeout=60)) as asked,
    ):
        wait_for_open_requests(whole, 1)
        worker.kill()
        answer = asked.result(60)
    assert answer.status_code == 200, answer.text
    if streamed:
        events, is_done = parse_events(answer.content)
        assert is_done
        assert not any("error" in event for event in events)
        assert [event["choices"][0]["delta"].get("role") for event in events].count("assistant") == 1
    else:
        assert answer.json()["usage"]["completion_tokens"] == 3


def test_a_stream_that_has_begun_ends_in_a_typed_error_event(whole: Served) -> None:
    body = chat_body(ignore_eos=True, max_tokens=5000, stream=True)
    raw = b""
    with whole.http.stream("POST", "/v1/chat/completions", json=body) as response:
        for chunk in response.iter_raw():
            if not raw:
                whole.worker("generator").kill()
            raw += chunk
    events, is_done = parse_events(raw)
    assert not is_done
    error = events[-1]["error"]
    assert (error["code"], error["type"]) == ("worker_lost", "server_error")
    assert all("choices" in event for event in events[:-1])


def test_an_embedding_and_a_ranking_under_way_are_computed_again(whole: Served) -> None:
    requests: list[tuple[str, dict[str, Any]]] = [
        ("/v1/embeddings", {"model": EMBED, "input": "hello"}),
        ("/v1/rerank", {"model": RERANK, "query": "hello", "documents": ["hello", "stone"]}),
    ]
    with held(whole.worker("encoder")) as worker, ThreadPoolExecutor(2) as pool:
        asked = [
            pool.submit(lambda path, body: httpx.post(f"{whole.url}{path}", json=body, timeout=60), *request)
            for request in requests
        ]
        wait_for_open_requests(whole, 2)
        worker.kill()
        answers = [each.result(60) for each in asked]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert whole.chat(max_tokens=1).status_code == 200, "the generator has not been touched"


def test_a_request_that_loses_two_workers_is_an_error(whole: Served) -> None:
    """It might be what kills them."""
    first = whole.worker("generator")
    with waiting(lambda: httpx.post(f"{whole.url}/v1/completions", json=LONG_PROMPT, timeout=60)) as asked:
        wait_for_open_requests(whole, 1)
        first.kill()
        whole.wait_until(lambda: whole.has_new_worker("generator", first), seconds=10)
        second = whole.worker("generator")
        whole.wait_ready()
        second.kill()
        answer = asked.result(60)
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "worker_lost"
    assert answer.headers["retry-after"]


def test_the_gateway_answers_while_workers_die(whole: Served) -> None:
    stopped = threading.Event()
    statuses: list[int] = []

    def watch() -> None:
        with httpx.Client(base_url=whole.url, timeout=2, trust_env=False) as http:
            while not stopped.wait(0.02):
                statuses.append(http.get("/healthz").status_code)

    watcher = threading.Thread(target=watch)
    watcher.start()
    whole.worker("generator").kill()
    whole.worker("encoder").kill()
    whole.wait_until(lambda: not whole.is_ready(), seconds=5)
    whole.wait_ready()
    stopped.set()
    watcher.join()
    assert len(statuses) > 10
    assert set(statuses) == {200}
