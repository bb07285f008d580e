"""A worker that dies in the middle of an answer: every client is told, in its own way, and none waits."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import anthropic
import ollama
import openai
import pytest

from tests.conftest import StartServer
from tests.serving import CHAT, Served

ASKED: Any = [{"role": "user", "content": "Count for ever."}]
LONG = {"ignore_eos": True}


def read(stream: Iterable[Any], after: int, cut: Callable[[], None]) -> None:
    """Reads to the end, which comes sooner than it should: the worker dies `after` so many events."""
    for number, _ in enumerate(stream):
        if number == after:
            cut()


def chat(served: Served, cut: Callable[[], None]) -> None:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="any", max_retries=0) as sdk:
        stream = sdk.chat.completions.create(
            model=CHAT, messages=ASKED, max_tokens=4000, stream=True, extra_body=LONG
        )
        with pytest.raises(openai.APIError):
            read(stream, 3, cut)


def responses(served: Served, cut: Callable[[], None]) -> None:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="any", max_retries=0) as sdk:
        last = None
        for last in sdk.responses.create(model=CHAT, input="Count for ever.", temperature=0, stream=True):
            if last.sequence_number == 6:
                cut()
        assert last is not None
        assert last.type == "response.failed"
        assert last.response.error is not None
        assert last.response.error.code == "server_error"
        assert sdk.responses.retrieve(last.response.id).status == "failed"


def messages(served: Served, cut: Callable[[], None]) -> None:
    with anthropic.Anthropic(base_url=served.url, api_key="any", max_retries=0) as sdk:
        stream = sdk.messages.create(model=CHAT, messages=ASKED, max_tokens=4000, stream=True)
        with pytest.raises(anthropic.APIStatusError):
            read(stream, 4, cut)


def lines(served: Served, cut: Callable[[], None]) -> None:
    with ollama.Client(host=served.url) as client:
        stream = client.chat(CHAT, ASKED, stream=True, options={"temperature": 0})
        with pytest.raises(ollama.ResponseError):
            read(stream, 3, cut)


def test_a_cut_stream_ends_in_an_error(start_server: StartServer) -> None:
    served = start_server("generator.context_length=4096")
    for client in (chat, responses, messages, lines):
        client(served, lambda: served.worker("generator").kill())
        served.wait_until(served.is_ready, 60)
