"""Chat completions that are kept, batches and uploads, through the real openai SDK."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest

from tests.serving import CHAT, Served


@pytest.fixture(scope="module")
def sdk(server: Served) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", timeout=60, max_retries=0) as client:
        yield client


def test_a_kept_answer_is_found_changed_and_deleted(sdk: openai.OpenAI) -> None:
    made = sdk.chat.completions.create(
        model=CHAT,
        messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello?"}],
        store=True,
        metadata={"topic": "greeting"},
        max_tokens=6,
    )
    found = sdk.chat.completions.retrieve(made.id)
    assert found.choices == made.choices
    assert found.usage == made.usage
    assert made.id in [each.id for each in sdk.chat.completions.list(metadata={"topic": "greeting"})]
    assert made.id not in [each.id for each in sdk.chat.completions.list(metadata={"topic": "other"})]
    assert made.id not in [each.id for each in sdk.chat.completions.list(model="another")]
    messages = list(sdk.chat.completions.messages.list(made.id))
    assert [(message.role, message.content) for message in messages] == [
        ("system", "Be brief."),
        ("user", "Hello?"),
    ]
    changed = sdk.chat.completions.update(made.id, metadata={"topic": "other"})
    assert changed.to_dict()["metadata"] == {"topic": "other"}
    assert made.id in [each.id for each in sdk.chat.completions.list(metadata={"topic": "other"})]
    assert sdk.chat.completions.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError):
        sdk.chat.completions.retrieve(made.id)


def test_a_kept_stream_is_whole(sdk: openai.OpenAI) -> None:
    stream = sdk.chat.completions.create(
        model=CHAT, messages=[{"role": "user", "content": "Hello?"}], store=True, max_tokens=6, stream=True
    )
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    found = sdk.chat.completions.retrieve(chunks[0].id)
    assert found.choices[0].message.content == text
    assert found.choices[0].finish_reason == "length"


def test_what_is_not_to_be_kept_is_not(sdk: openai.OpenAI) -> None:
    made = sdk.chat.completions.create(
        model=CHAT, messages=[{"role": "user", "content": "Hello?"}], max_tokens=4
    )
    with pytest.raises(openai.NotFoundError):
        sdk.chat.completions.retrieve(made.id)
