"""LiteLLM as an SDK, with the prefixes that its users write."""

from __future__ import annotations

import asyncio
from typing import Any

import litellm
import pytest

from tests.clients.ecosystem.conftest import QWEN
from tests.serving import EMBED

litellm.telemetry = False
litellm.suppress_debug_info = True
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}


@pytest.fixture
def to(base_url: str) -> dict[str, Any]:
    return {"api_base": base_url, "api_key": "unused", "num_retries": 0, "temperature": 0, "max_tokens": 24}


@pytest.mark.parametrize("prefix", ["openai", "hosted_vllm", "lm_studio"])
def test_a_chat_is_answered_whole_and_as_a_stream(to: dict[str, Any], prefix: str) -> None:
    asked: Any = {"model": f"{prefix}/{QWEN}", "messages": [{"role": "user", "content": "Say hello."}], **to}
    whole = litellm.completion(**asked)
    assert whole.choices[0].message.content
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    chunks = list(litellm.completion(stream=True, stream_options={"include_usage": True}, **asked))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content


def test_async_and_several_at_once(to: dict[str, Any]) -> None:
    async def run() -> list[Any]:
        asked = {"model": f"openai/{QWEN}", "messages": [{"role": "user", "content": "One word."}], **to}
        return await asyncio.gather(*(litellm.acompletion(**asked) for _ in range(3)))

    assert all(answer.choices[0].message.content for answer in asyncio.run(run()))


def test_tools_and_structured_output(to: dict[str, Any]) -> None:
    asked: Any = {"model": f"openai/{QWEN}", **to, "max_tokens": 200}
    question = [{"role": "user", "content": "How is the weather in Bern?"}]
    called = litellm.completion(messages=question, tools=[WEATHER], tool_choice="required", **asked)
    assert called.choices[0].message.tool_calls[0].function.name == "get_weather"
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    wanted: Any = {"type": "json_schema", "json_schema": {"name": "place", "schema": schema, "strict": True}}
    made = litellm.completion(messages=question, response_format=wanted, **asked)
    assert '"city"' in made.choices[0].message.content


def test_embeddings(base_url: str) -> None:
    found = litellm.embedding(
        model=f"openai/{EMBED}",
        input=["a", "b"],
        api_base=base_url,
        api_key="unused",
        encoding_format="float",
    )
    assert [len(each["embedding"]) for each in found.data] == [384, 384]


def test_responses(base_url: str) -> None:
    made: Any = litellm.responses(
        model=f"openai/{QWEN}", input="Say hello.", api_base=base_url, api_key="unused", max_output_tokens=16
    )
    assert made.output[0].content[0].text


def test_the_anthropic_and_ollama_surfaces(base_url: str) -> None:
    root = base_url.removesuffix("/v1")
    asked: Any = {"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 16}
    for model in (f"anthropic/{QWEN}", f"ollama_chat/{QWEN}"):
        answer = litellm.completion(model=model, api_base=root, api_key="unused", num_retries=0, **asked)
        assert answer.choices[0].message.content


def test_errors_are_of_the_kind_that_the_server_says(to: dict[str, Any]) -> None:
    asked: Any = {"messages": [{"role": "user", "content": "Hello."}], **to}
    with pytest.raises(litellm.NotFoundError):
        litellm.completion(model="openai/nothing", **asked)
    long: Any = asked | {"messages": [{"role": "user", "content": "word " * 40_000}]}
    with pytest.raises(litellm.ContextWindowExceededError):
        litellm.completion(model=f"openai/{QWEN}", **long)
