"""`deterministic: true`: the same seed, prompt and settings give the same text, alone and in company."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from tests.serving import CHAT, chat_body, events_of, text_of

PATH = "/v1/chat/completions"
COMPANY = 8
QUESTION = (
    "List the steps to change the oil of a small engine, then explain to a child why an engine needs oil at "
    "all, and end with a story of at least ten sentences about a machine that was never looked after."
)
DRAWN: dict[str, Any] = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "max_tokens": 48}


def answer(http: httpx.Client, **parameters: Any) -> dict[str, Any]:
    response = http.post(PATH, json=chat_body(QUESTION, **{**DRAWN, **parameters}))
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


def text(body: dict[str, Any], choice: int = 0) -> str:
    return str(body["choices"][choice]["message"]["content"])


@contextmanager
def company(http: httpx.Client) -> Iterator[None]:
    """Eight other streams that run all the while."""
    running = threading.Semaphore(0)
    stop = threading.Event()

    def stream(number: int) -> None:
        body = chat_body(f"Count from {number} on.", stream=True, max_tokens=400, ignore_eos=True)
        with http.stream("POST", PATH, json=body) as response:
            for place, _ in enumerate(response.iter_raw()):
                if place == 2:
                    running.release()
                if stop.is_set():
                    return

    threads = [threading.Thread(target=stream, args=(number,)) for number in range(COMPANY)]
    for thread in threads:
        thread.start()
    try:
        assert all(running.acquire(timeout=60) for _ in threads)
        yield
        assert all(thread.is_alive() for thread in threads), "the company left before the end"
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_company_changes_nothing(http: httpx.Client) -> None:
    alone = answer(http, seed=7, deterministic=True)
    with company(http):
        assert text(answer(http, seed=7, deterministic=True)) == text(alone)
    assert alone["warnings"] == []
    assert alone["usage"]["prompt_tokens_details"]["cached_tokens"] == 0


def test_seeds_differ(http: httpx.Client) -> None:
    assert text(answer(http, seed=7, deterministic=True)) != text(answer(http, seed=8, deterministic=True))


def test_a_cached_prompt_changes_nothing(http: httpx.Client) -> None:
    first = text(answer(http, seed=3, deterministic=True))
    assert answer(http, seed=3)["choices"]  # leaves the prompt in the shared cache
    assert text(answer(http, seed=3, deterministic=True)) == first


def test_without_a_seed_the_draws_are_the_same_too(http: httpx.Client) -> None:
    assert text(answer(http, deterministic=True)) == text(answer(http, deterministic=True))


def test_several_choices_are_the_same_again(http: httpx.Client) -> None:
    first, second = (answer(http, deterministic=True, seed=1, n=2, max_tokens=16) for _ in range(2))
    assert [text(first, 0), text(first, 1)] == [text(second, 0), text(second, 1)]
    assert text(first, 0) != text(first, 1)


def test_a_stream_says_the_same(http: httpx.Client) -> None:
    whole = answer(http, seed=5, deterministic=True)
    body = chat_body(QUESTION, **DRAWN, seed=5, deterministic=True, stream=True)
    with http.stream("POST", PATH, json=body) as response:
        events = events_of(response)
    assert text_of(events) == text(whole)
    assert {event["system_fingerprint"] for event in events} == {whole["system_fingerprint"]}


def test_a_seed_alone_says_that_it_cannot_promise(http: httpx.Client) -> None:
    warnings = answer(http, seed=7, max_tokens=2)["warnings"]
    assert any("deterministic" in warning for warning in warnings)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_the_fingerprint_names_what_decides_the_text(http: httpx.Client, path: str) -> None:
    prompt = (
        {"prompt": "a"} if path == "/v1/completions" else {"messages": [{"role": "user", "content": "a"}]}
    )
    body = http.post(path, json={"model": CHAT, "max_tokens": 1, **prompt}).json()
    assert body["system_fingerprint"].startswith("fp_")


def test_one_that_leaves_early_stops_nobody(http: httpx.Client) -> None:
    body = chat_body(QUESTION, seed=5, deterministic=True, stream=True, max_tokens=400, ignore_eos=True)
    with http.stream("POST", PATH, json=body) as response:
        next(response.iter_raw())
    assert text(answer(http, seed=5, deterministic=True, max_tokens=4))
