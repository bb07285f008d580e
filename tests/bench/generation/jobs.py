"""The requests of the rows: greedy, of a fixed length, streamed with their usage."""

from __future__ import annotations

from typing import Any

from tests.bench.generation import texts

COMMON = {
    "temperature": 0,
    "ignore_eos": True,
    "stream": True,
    "stream_options": {"include_usage": True},
}


def completion(model: str, prompt: str, tokens: int, delay: float = 0.0) -> dict[str, Any]:
    body = COMMON | {"model": model, "prompt": prompt, "max_tokens": tokens}
    return {"path": "/v1/completions", "body": body, "delay": delay}


def chat(model: str, system: str, question: str, tokens: int, delay: float = 0.0) -> dict[str, Any]:
    messages = [{"role": "system", "content": system}, {"role": "user", "content": question}]
    body = COMMON | {"model": model, "messages": messages, "max_tokens": tokens}
    return {"path": "/v1/chat/completions", "body": body, "delay": delay}


def distinct(model: str, count: int, length: int, tokens: int, seed: int) -> list[dict[str, Any]]:
    """`count` prompts of `length` words that have nothing in common."""
    return [completion(model, texts.words(length, seed * 1000 + n), tokens) for n in range(count)]


def sharing(model: str, count: int, length: int, tokens: int, seed: int) -> list[dict[str, Any]]:
    """`count` questions under one system prompt of `length` words."""
    system = texts.words(length, seed)
    return [chat(model, system, texts.words(8, seed * 1000 + 500 + n), tokens) for n in range(count)]
