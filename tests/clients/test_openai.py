"""The real openai SDK against the real server: what its users' programs do, and what they catch."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam

from tests.conftest import StartServer
from tests.serving import CHAT, EMBED, MULTILINGUAL, RERANK, Served

QUESTION = "List the months of the year."


@pytest.fixture(scope="module")
def sdk(server: Served) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", timeout=60, max_retries=0) as client:
        yield client


def joined(chunks: list[ChatCompletionChunk]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def test_chat(sdk: openai.OpenAI) -> None:
    answer = sdk.chat.completions.create(
        model=CHAT, messages=[{"role": "user", "content": QUESTION}], temperature=0, max_completion_tokens=12
    )
    assert "January" in (answer.choices[0].message.content or "")
    assert answer.choices[0].message.role == "assistant"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens is not None


def test_a_chat_stream_gives_the_same_text_and_the_usage(sdk: openai.OpenAI) -> None:
    messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": QUESTION}]
    whole = sdk.chat.completions.create(model=CHAT, messages=messages, temperature=0, max_tokens=12)
    stream = sdk.chat.completions.create(
        model=CHAT,
        messages=messages,
        temperature=0,
        max_tokens=12,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    assert joined(chunks) == whole.choices[0].message.content
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 12


def test_the_stream_helper_puts_an_answer_together(sdk: openai.OpenAI) -> None:
    with sdk.chat.completions.stream(
        model=CHAT, messages=[{"role": "user", "content": "Say only: yes"}], temperature=0, max_tokens=200
    ) as stream:
        text = "".join(event.delta for event in stream if event.type == "content.delta")
        completion = stream.get_final_completion()
    assert completion.choices[0].message.content == text
    assert completion.choices[0].finish_reason == "stop"


def test_logprobs(sdk: openai.OpenAI) -> None:
    answer = sdk.chat.completions.create(
        model=CHAT,
        messages=[{"role": "user", "content": QUESTION}],
        max_tokens=2,
        temperature=0,
        logprobs=True,
        top_logprobs=2,
    )
    assert answer.choices[0].logprobs is not None
    tokens = answer.choices[0].logprobs.content
    assert tokens is not None
    assert [len(token.top_logprobs) for token in tokens] == [2, 2]


def test_what_is_ours_goes_through_extra_body(sdk: openai.OpenAI) -> None:
    answer = sdk.chat.completions.create(
        model=CHAT,
        messages=[{"role": "user", "content": QUESTION}],
        max_tokens=5,
        extra_body={"ignore_eos": True, "top_k": 1, "min_p": 0.1},
    )
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 5


def test_completions_whole_and_streamed(sdk: openai.OpenAI) -> None:
    whole = sdk.completions.create(
        model=CHAT, prompt="The capital of France is", temperature=0, max_tokens=4, logprobs=1
    )
    assert whole.choices[0].text.startswith(" Paris")
    assert whole.choices[0].logprobs is not None
    stream = sdk.completions.create(
        model=CHAT, prompt="The capital of France is", temperature=0, max_tokens=4, stream=True
    )
    assert "".join(chunk.choices[0].text for chunk in stream) == whole.choices[0].text


def test_embeddings_in_the_sdks_default_base64(sdk: openai.OpenAI) -> None:
    texts = ["How do I reset my password?", "I forgot my password", "The soup is hot"]
    default = sdk.embeddings.create(model=EMBED, input=texts)
    as_floats = sdk.embeddings.create(model=EMBED, input=texts, encoding_format="float")
    assert [len(row.embedding) for row in default.data] == [384] * 3
    for encoded, plain in zip(default.data, as_floats.data, strict=True):
        assert encoded.embedding == pytest.approx(plain.embedding, abs=1e-6)
    assert default.usage.total_tokens > 10


def test_models(sdk: openai.OpenAI) -> None:
    assert [model.id for model in sdk.models.list()] == [CHAT, EMBED, MULTILINGUAL, RERANK]
    assert sdk.models.retrieve(EMBED).owned_by == "hearth"


def test_async(server: Served) -> None:
    async def use() -> tuple[str, str, int]:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="any", timeout=60) as client:

            async def chat() -> str:
                answer = await client.chat.completions.create(
                    model=CHAT,
                    messages=[{"role": "user", "content": QUESTION}],
                    temperature=0,
                    max_tokens=12,
                )
                return answer.choices[0].message.content or ""

            async def stream() -> str:
                chunks = await client.chat.completions.create(
                    model=CHAT,
                    messages=[{"role": "user", "content": QUESTION}],
                    temperature=0,
                    max_tokens=12,
                    stream=True,
                )
                return joined([chunk async for chunk in chunks])

            async def embed() -> int:
                return len((await client.embeddings.create(model=EMBED, input="hi")).data[0].embedding)

            return await asyncio.gather(chat(), stream(), embed())

    whole, streamed, width = asyncio.run(use())
    assert whole
    assert whole == streamed
    assert width == 384


# What programs catch


def test_an_unknown_model_is_not_found(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        sdk.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "hi"}])
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    assert caught.value.request_id
    with pytest.raises(openai.NotFoundError):
        sdk.models.retrieve("gpt-4o")


def test_a_wrong_value_is_a_bad_request_with_param_and_code(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.chat.completions.create(model=CHAT, messages=[{"role": "user", "content": "hi"}], temperature=3)
    error = caught.value
    assert (error.status_code, error.param, error.code) == (400, "temperature", "invalid_value")
    assert error.type == "invalid_request_error"
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.chat.completions.create(
            model=CHAT, messages=[{"role": "user", "content": "hi"}], extra_body={"temprature": 1}
        )
    assert (caught.value.param, caught.value.code) == ("temprature", "unknown_parameter")


def test_too_long_a_prompt_is_a_bad_request(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.chat.completions.create(model=CHAT, messages=[{"role": "user", "content": "word " * 9000}])
    assert caught.value.code == "context_length_exceeded"


def test_the_sdk_comes_back_by_itself_when_the_model_is_not_there_yet(start_server: StartServer) -> None:
    """A 503 with Retry-After is no error to the SDK's users; without retries it is InternalServerError."""
    served = start_server("limits.load_wait=0.05")
    served.worker("generator").kill()
    served.wait_until(lambda: not served.is_ready(), seconds=5)
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="any", max_retries=0) as hasty:
        with pytest.raises(openai.InternalServerError) as caught:
            hasty.completions.create(model=CHAT, prompt="Once", max_tokens=1)
        assert (caught.value.status_code, caught.value.code) == (503, "model_loading")
        patient = hasty.with_options(max_retries=8)
        assert patient.completions.create(model=CHAT, prompt="Once", max_tokens=1).choices
    served.stop()


def test_rerank_over_plain_http_as_jinas_and_coheres_clients_do(server: Served) -> None:
    body = {
        "model": RERANK,
        "query": "What do pandas eat?",
        "documents": ["The bank opens at nine.", "Pandas eat bamboo.", "A panda is a bear."],
        "top_n": 2,
        "return_documents": True,
    }
    response = httpx.post(f"{server.url}/v1/rerank", json=body, timeout=60, trust_env=False)
    first, second = response.json()["results"]
    assert first["document"]["text"] == "Pandas eat bamboo."
    assert first["relevance_score"] > second["relevance_score"]
