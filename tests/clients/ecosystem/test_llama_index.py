"""LlamaIndex's classes for servers that speak like OpenAI."""

from __future__ import annotations

import asyncio

import pytest
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel

from tests.clients.ecosystem.conftest import QWEN
from tests.serving import EMBED


@pytest.fixture
def llm(base_url: str) -> OpenAILike:
    return OpenAILike(
        model=QWEN,
        api_base=base_url,
        api_key="unused",
        is_chat_model=True,
        is_function_calling_model=True,
        context_window=4096,
        temperature=0,
        max_tokens=64,
        max_retries=0,
    )


class City(BaseModel):
    name: str
    country: str


def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"It is sunny in {city}."


def test_chat_whole_streamed_and_async(llm: OpenAILike) -> None:
    asked = [ChatMessage(role="user", content="Say hello.")]
    whole = llm.chat(asked).message.content
    assert whole
    assert list(llm.stream_chat(asked))[-1].message.content == whole
    assert asyncio.run(llm.achat(asked)).message.content == whole


def test_completion_of_text(base_url: str) -> None:
    llm = OpenAILike(
        model=QWEN, api_base=base_url, api_key="unused", is_chat_model=False, temperature=0, max_tokens=8
    )
    text = llm.complete("One, two, three,").text
    assert text
    assert list(llm.stream_complete("One, two, three,"))[-1].text == text


def test_a_tool_is_called(llm: OpenAILike) -> None:
    tool = FunctionTool.from_defaults(get_weather)
    response = llm.chat_with_tools([tool], user_msg="How is the weather in Bern?", tool_required=True)
    calls = llm.get_tool_calls_from_response(response)
    assert [call.tool_name for call in calls] == ["get_weather"]
    assert "city" in calls[0].tool_kwargs


def test_structured_output(llm: OpenAILike) -> None:
    found = llm.as_structured_llm(City).complete("Bern is the capital of Switzerland.").raw
    assert isinstance(found, City)


def test_embeddings(base_url: str) -> None:
    model = OpenAILikeEmbedding(model_name=EMBED, api_base=base_url, api_key="unused", max_retries=0)
    assert len(model.get_text_embedding("a")) == 384
    assert len(model.get_text_embedding_batch(["a", "b", "c"])) == 3
