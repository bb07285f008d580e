"""Text is never split inside a UTF-8 character, whatever the model says."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.serving import CHAT, chat_body, events_of, text_of

EMOJI = (10813, 242, 218)  # SmolLM2's three tokens of one emoji, none of them a character by itself
# Its tokens of one byte each: those that begin a character of several bytes, and those that go on with one.
FIRST_BYTES, LATER_BYTES = range(143, 194), range(239, 272)


def pieces(events: list[dict[str, Any]]) -> bytes:
    return b"".join(
        bytes(token["bytes"])
        for event in events
        for choice in event["choices"]
        for token in (choice["logprobs"] or {"content": []})["content"]
    )


@pytest.mark.parametrize("seed", [1, 2])
def test_wild_output_streams_as_it_decodes_whole(http: httpx.Client, seed: int) -> None:
    wild = {"temperature": 2, "top_p": 1, "top_k": 0, "min_p": 0, "ignore_eos": True}
    bias = dict.fromkeys(map(str, FIRST_BYTES), 14) | dict.fromkeys(map(str, LATER_BYTES), 12)
    body = chat_body("Go on.", stream=True, logprobs=True, max_tokens=64, seed=seed, logit_bias=bias, **wild)
    events = events_of(http.post("/v1/chat/completions", json=body))
    raw = pieces(events)
    text = raw.decode(errors="replace")
    assert 0 < text.count("\ufffd") < len(text), "the test must meet whole and broken characters"
    assert text_of(events) == text


def test_an_emoji_of_three_tokens_comes_in_one_chunk(http: httpx.Client) -> None:
    body = {
        "model": CHAT,
        "prompt": [*EMOJI * 12],
        "temperature": 0,
        "max_tokens": 12,
        "stream": True,
        "logit_bias": {str(token): 30 for token in EMOJI},
    }
    events = events_of(http.post("/v1/completions", json=body))
    texts = [choice["text"] for event in events for choice in event["choices"] if choice["text"]]
    assert any("😀" in text for text in texts), texts
    assert all("\ufffd" not in text for text in texts[:-1]), texts


def test_a_prompt_in_several_scripts_arrives_whole(http: httpx.Client) -> None:
    """The same text as a raw and as an escaped JSON string is the same prompt."""
    body = chat_body("你好 😀 здравствуй", max_tokens=1, temperature=0)
    escaped = http.post("/v1/chat/completions", content=json.dumps(body)).json()
    raw = http.post("/v1/chat/completions", content=json.dumps(body, ensure_ascii=False).encode()).json()
    assert escaped["choices"] == raw["choices"]
    assert escaped["usage"]["prompt_tokens"] == raw["usage"]["prompt_tokens"]
