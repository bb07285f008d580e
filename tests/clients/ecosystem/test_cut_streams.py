"""Each client with the model's process killed within a stream: an error, not the end of an answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import litellm
import pytest
from langchain_openai import ChatOpenAI
from llama_index.llms.openai_like import OpenAILike

from tests.clients.ecosystem.conftest import PROGRAM
from tests.conftest import require
from tests.serving import CHAT, Served

ASKED = "Count from one to ten thousand, every number in words."


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    require((CHAT,))
    home: Path = tmp_path_factory.mktemp("cut") / "home"
    served = Served(home, (CHAT,), ("generator.context_length=4096",), program=PROGRAM)
    try:
        served.wait_ready()
        yield served
    finally:
        served.end()


def langchain(url: str) -> Iterator[Any]:
    model = ChatOpenAI(model=CHAT, base_url=url, api_key="unused", max_retries=0, max_tokens=4000)
    return iter(model.stream(ASKED))


def lite(url: str) -> Iterator[Any]:
    return iter(
        litellm.completion(
            model=f"openai/{CHAT}",
            messages=[{"role": "user", "content": ASKED}],
            stream=True,
            api_base=url,
            api_key="unused",
            max_tokens=4000,
            num_retries=0,
        )
    )


def llama_index(url: str) -> Iterator[Any]:
    model = OpenAILike(
        model=CHAT, api_base=url, api_key="unused", is_chat_model=True, max_tokens=4000, max_retries=0
    )
    return iter(model.stream_complete(ASKED))


@pytest.mark.parametrize("client", [langchain, lite, llama_index])
def test_a_cut_stream_ends_in_an_error(served: Served, client: Callable[[str], Iterator[Any]]) -> None:
    served.wait_until(served.is_ready, 120)
    stream = client(f"{served.url}/v1")
    for _ in range(4):
        next(stream)
    served.worker("generator").kill()
    with pytest.raises(Exception, match=r"(?i)worker|lost|process"):
        for _ in stream:
            pass
