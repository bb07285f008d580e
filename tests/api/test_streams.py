"""Many clients at once, and clients that leave: every slot is used, and none is kept by nobody."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.conftest import StartServer
from tests.serving import CHAT, EMBED, Served, chat_body, events_of, text_of

CLIENTS = 32
ENDLESS: dict[str, Any] = {"ignore_eos": True, "max_tokens": 6000, "stream": True}


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory, server: Served) -> Iterator[Served]:
    """A server with one slot and a queue of two; `server` says whether its model is there."""
    settings = ("generator.slots=1", "generator.queue_requests=2", "limits.load_wait=5")
    served = Served(tmp_path_factory.mktemp("narrow") / "home", (CHAT,), settings)
    try:
        served.wait_ready()
        yield served
        served.stop()
    finally:
        served.end()


@contextlib.contextmanager
def streaming(served: Served) -> Iterator[Iterator[str]]:
    """The lines of a stream that has begun; leaving the block is the client's leaving."""
    with (
        httpx.Client(base_url=served.url, timeout=60, trust_env=False) as client,
        client.stream("POST", "/v1/chat/completions", json=chat_body("A story!", **ENDLESS)) as response,
    ):
        assert response.status_code == 200, response.read()
        lines = response.iter_lines()
        next(lines)
        yield lines


@contextlib.contextmanager
def asking(served: Served, **parameters: Any) -> Iterator[None]:
    """A client that waits for its answer; leaving the block is the client's leaving."""
    host, _, port = served.url.removeprefix("http://").partition(":")
    body = json.dumps(chat_body(ignore_eos=True, max_tokens=6000, **parameters)).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: {host}\r\ncontent-length: {len(body)}\r\n\r\n"
    with socket.create_connection((host, int(port))) as client:
        client.sendall(head.encode() + body)
        yield


def test_32_streams_at_once_all_finish(server: Served) -> None:
    def one(number: int) -> tuple[str, str]:
        body = chat_body(f"Count to {number}.", stream=True, max_tokens=12, ignore_eos=True, temperature=0)
        response = httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=120, trust_env=False)
        assert response.status_code == 200, response.text
        events = events_of(response)
        return text_of(events), events[-1]["choices"][0]["finish_reason"]

    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = list(pool.map(one, range(CLIENTS)))
    assert [reason for _, reason in answers] == ["length"] * CLIENTS
    assert all(text.strip() for text, _ in answers)
    assert server.figure("hearth_worker_running") == 0


def test_short_requests_overtake_a_long_stream(server: Served) -> None:
    with streaming(server) as long:
        assert server.chat(max_tokens=2).status_code == 200
        assert "data: [DONE]" not in [next(long) for _ in range(9)], "the long one goes on"


def test_a_client_that_leaves_its_stream_frees_the_slot(narrow: Served) -> None:
    with streaming(narrow):
        assert narrow.figure("hearth_worker_running") == 1
    narrow.wait_until(lambda: narrow.figure("hearth_worker_running") == 0, seconds=1)
    assert narrow.chat(max_tokens=1).status_code == 200


def test_a_client_that_leaves_before_its_answer_frees_the_slot(narrow: Served) -> None:
    with asking(narrow):
        narrow.wait_until(lambda: narrow.figure("hearth_worker_running") == 1, seconds=5)
    narrow.wait_until(lambda: narrow.figure("hearth_worker_running") == 0, seconds=1)


@pytest.mark.parametrize("streamed", [False, True])
def test_a_client_that_leaves_the_queue_is_forgotten(narrow: Served, streamed: bool) -> None:
    with streaming(narrow) as before:
        with asking(narrow, stream=streamed):
            narrow.wait_until(lambda: narrow.figure("hearth_worker_waiting") == 1, seconds=5)
        narrow.wait_until(lambda: narrow.figure("hearth_worker_waiting") == 0, seconds=1)
        assert narrow.figure("hearth_worker_running") == 1
        assert next(before) != "data: [DONE]", "the one before it goes on"


def test_a_full_queue_refuses_at_once_and_says_when_to_come_back(narrow: Served) -> None:
    with streaming(narrow), asking(narrow), asking(narrow):
        narrow.wait_until(lambda: narrow.figure("hearth_worker_waiting") == 2, seconds=5)
        refused = narrow.chat(max_tokens=1)
        assert refused.status_code == 429
        assert refused.json()["error"]["code"] == "queue_full"
        assert int(refused.headers["retry-after"]) >= 1
        assert int(refused.headers["retry-after-ms"]) > 0
    narrow.wait_until(lambda: narrow.figure("hearth_worker_running") == 0, seconds=1)


def test_a_client_that_leaves_before_its_body_has_come_does_no_harm(server: Served) -> None:
    host, _, port = server.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port))) as client:
        client.sendall(b"POST /v1/embeddings HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99\r\n\r\n{")
    assert server.http.get("/healthz").status_code == 200


def test_embeddings_of_many_clients_do_not_mix(server: Served) -> None:
    texts = [f"text number {number} " * (number % 7 + 1) for number in range(24)]

    def one(text: str) -> list[float]:
        body = {"model": EMBED, "input": text}
        response = httpx.post(f"{server.url}/v1/embeddings", json=body, timeout=60, trust_env=False)
        vector: list[float] = response.json()["data"][0]["embedding"]
        return vector

    alone = one(texts[5])
    with ThreadPoolExecutor(12) as pool:
        together = list(pool.map(one, texts))
    products = [sum(a * b for a, b in zip(alone, other, strict=True)) for other in together]
    assert products.index(max(products)) == 5


def test_a_slow_reader_gets_everything(narrow: Served) -> None:
    """A client that does not read for a while holds nobody up, and misses nothing."""
    options = {"include_usage": True}
    body = chat_body(ignore_eos=True, max_tokens=80, stream=True, stream_options=options, logprobs=True)
    with (
        httpx.Client(base_url=narrow.url, timeout=60, trust_env=False) as client,
        client.stream("POST", "/v1/chat/completions", json=body) as response,
    ):
        narrow.wait_until(lambda: narrow.figure("hearth_worker_running") == 0, seconds=60)
        *events, last = events_of(response)
    logprobs = [event["choices"][0]["logprobs"] for event in events]
    assert sum(len(each["content"]) for each in logprobs if each) == 80
    assert last["usage"]["completion_tokens"] == 80


def test_too_many_connections_are_refused_and_the_server_goes_on(start_server: StartServer) -> None:
    served = start_server("limits.connections=8")
    host, _, port = served.url.removeprefix("http://").partition(":")
    with contextlib.ExitStack() as idle:
        for _ in range(12):
            idle.enter_context(socket.create_connection((host, int(port))))
        served.wait_until(lambda: httpx.get(f"{served.url}/healthz").status_code == 503, seconds=5)
    served.wait_until(lambda: httpx.get(f"{served.url}/healthz").status_code == 200, seconds=5)
    served.stop()
