"""langchain-openai with the tiny pack; the standard suites run with a larger model, see `ecosystem`."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel

from tests.serving import CHAT, EMBED, Served


class Dog(BaseModel):
    """A dog."""

    name: str
    age: int


def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


@pytest.fixture
def model(server: Served) -> ChatOpenAI:
    to: dict[str, Any] = {"base_url": f"{server.url}/v1", "api_key": "unused", "max_retries": 0}
    return ChatOpenAI(model=CHAT, temperature=0, max_tokens=60, **to)


def test_answers_whole_streamed_and_in_a_batch(model: ChatOpenAI) -> None:
    whole = model.invoke("Say hello.")
    assert whole.content
    assert whole.usage_metadata is not None
    assert whole.usage_metadata["total_tokens"] > 10
    assert "".join(str(chunk.content) for chunk in model.stream("Say hello."))
    assert len(asyncio.run(model.abatch(["One.", "Two."]))) == 2


def test_structured_output_and_tools(model: ChatOpenAI) -> None:
    for method in ("json_schema", "function_calling"):
        assert isinstance(model.with_structured_output(Dog, method=method).invoke("A dog."), Dog)
    called: Any = model.bind_tools([add], tool_choice="add").invoke("Add 2 and 3.")
    assert called.tool_calls[0]["name"] == "add"


def test_the_responses_surface(model: ChatOpenAI) -> None:
    through: Any = model.model_copy(update={"use_responses_api": True})
    assert through.invoke("Say hello.").text
    assert "".join(chunk.text for chunk in through.stream("Say hello."))


def test_embeddings(server: Served) -> None:
    to: Any = {"base_url": f"{server.url}/v1", "api_key": "unused", "max_retries": 0}
    model = OpenAIEmbeddings(model=EMBED, check_embedding_ctx_length=False, **to)  # texts, no OpenAI tokens
    assert [len(vector) for vector in model.embed_documents(["a", "b"])] == [384, 384]
    assert len(model.embed_query("a")) == 384
