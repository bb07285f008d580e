"""What a stream says while it waits, and what of a prompt is not computed again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import StartServer
from tests.serving import CHAT, Served, chat_body, parse_events

LONG = "Every clause of this contract binds both parties, and none of them may be read alone. " * 30


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory, server: Served) -> Iterator[Served]:
    """One slot, and a heartbeat that a test can wait for; `server` says whether its model is there."""
    settings = ("generator.slots=1", "limits.heartbeat=0.2")
    served = Served(tmp_path_factory.mktemp("slow") / "home", (CHAT,), settings)
    try:
        served.wait_ready()
        yield served
        served.stop()
    finally:
        served.end()


@contextlib.contextmanager
def occupied(served: Served) -> Iterator[None]:
    """Somebody else has the only slot."""
    body = chat_body("A story!", ignore_eos=True, max_tokens=6000, stream=True)
    with (
        httpx.Client(base_url=served.url, timeout=60, trust_env=False) as client,
        client.stream("POST", "/v1/chat/completions", json=body) as response,
    ):
        lines = response.iter_lines()
        next(lines)
        yield


def test_a_stream_that_waits_says_how_many_are_before_it(slow: Served) -> None:
    body = chat_body("Hello!", max_tokens=4, stream=True)
    with (
        occupied(slow),
        httpx.Client(base_url=slow.url, timeout=60, trust_env=False) as client,
        client.stream("POST", "/v1/chat/completions", json=body) as response,
    ):
        assert response.status_code == 200
        raw = response.iter_raw()
        said = b""
        while said.count(b": ") < 3:
            said += next(raw)
        assert b": waiting behind another\n\n" in said
        assert b"data:" not in said


def test_a_stream_that_waited_is_answered_when_its_turn_comes(slow: Served) -> None:
    body = chat_body("Hello!", max_tokens=4, stream=True, ignore_eos=True)
    raw = b""
    with httpx.Client(base_url=slow.url, timeout=60, trust_env=False) as client:
        with occupied(slow):
            stream = client.stream("POST", "/v1/chat/completions", json=body)
            response = stream.__enter__()
        raw = b"".join(response.iter_raw())
        stream.__exit__(None, None, None)
    events, is_done = parse_events(raw)
    assert is_done
    assert events[-1]["choices"][0]["finish_reason"] == "length"


def test_a_long_prompt_says_how_far_it_is(slow: Served) -> None:
    body = chat_body(LONG * 3, max_tokens=1, stream=True)
    with (
        httpx.Client(base_url=slow.url, timeout=60, trust_env=False) as client,
        client.stream("POST", "/v1/chat/completions", json=body) as response,
    ):
        raw = b"".join(response.iter_raw())
    assert b"prompt tokens are read" in raw
    assert parse_events(raw)[1]


def test_the_tier_that_was_used_is_told(slow: Served) -> None:
    with httpx.Client(base_url=slow.url, timeout=60, trust_env=False) as client:
        reply = client.post("/v1/chat/completions", json=chat_body("Hi", max_tokens=1, service_tier="flex"))
        assert reply.json()["service_tier"] == "flex"
        assert not reply.json()["warnings"]


def test_a_shared_beginning_outlives_the_server(start_server: StartServer, tmp_path: Path) -> None:
    cached = []
    for _ in range(2):
        served = start_server(models=(CHAT,), home=tmp_path / "home")
        with httpx.Client(base_url=served.url, timeout=60, trust_env=False) as client:
            for question in ("Who signs?", "Who pays?"):
                body = chat_body(LONG + question, max_tokens=2, temperature=0)
                usage = client.post("/v1/chat/completions", json=body).json()["usage"]
                cached.append(usage["prompt_tokens_details"]["cached_tokens"] / usage["prompt_tokens"])
        served.stop()
    first, second, after_restart, _ = cached
    assert first == 0
    assert second > 0.9
    assert after_restart > 0.8
