"""Rerank as Jina, Cohere and TEI have it, scores, tokens, templates, and Ollama's vectors."""

from __future__ import annotations

from typing import Any

import pytest

from tests.parameters.asking import DOCUMENTS, FUNCTION, MONTHS, QUERY, SAID
from tests.parameters.walker import Walker, walks
from tests.serving import CHAT, EMBED, MULTILINGUAL, RERANK

JINA, COHERE, ANY, SCORE = "/v1/rerank", "/v2/rerank", "/rerank", "/v1/score"


def _ranked(w: Walker, path: str) -> None:
    asked: dict[str, Any] = {"model": RERANK, "documents": DOCUMENTS, "texts": None}
    results = w.ask(path, **asked)["results"]
    assert [each["index"] for each in results] == [1, 0]
    assert "document" not in results[0] or results[0]["document"] is None
    told = w.ask(path, **asked, return_documents=True, top_n=1)["results"]
    assert [each["document"]["text"] for each in told] == [DOCUMENTS[1]]
    swapped = asked | {"documents": [{"text": DOCUMENTS[1]}, {"text": DOCUMENTS[0]}]}
    assert [each["index"] for each in w.ask(path, **swapped)["results"]] == [0, 1]
    about = w.ask(path, **asked, query="Where can I see paintings?")["results"]
    assert about[0]["relevance_score"] != results[0]["relevance_score"]
    w.refused(path, "nobody", 404, **asked | {"model": "nobody"})


@walks(JINA, "model", "query", "documents", "top_n", "return_documents")
def jina(w: Walker) -> None:
    _ranked(w, JINA)


@walks(COHERE, "model", "query", "documents", "top_n", "return_documents")
def cohere(w: Walker) -> None:
    _ranked(w, COHERE)


@walks(ANY, "model", "query", "documents", "top_n", "return_documents")
def either(w: Walker) -> None:
    _ranked(w, ANY)


@walks(ANY, "texts", "raw_scores", "return_text")
def text_embeddings_inference(w: Walker) -> None:
    found = w.ask(ANY)
    assert [each["index"] for each in found] == [1, 0]
    assert "text" not in found[0]
    assert w.ask(ANY, return_text=True)[0]["text"] == DOCUMENTS[1]
    assert 0 <= found[1]["score"] <= 1
    assert w.ask(ANY, raw_scores=True)[1]["score"] < 0


@walks(SCORE, "model", "text_1", "text_2")
def score(w: Walker) -> None:
    one = w.ask(SCORE)["data"]
    assert one[1]["score"] > one[0]["score"]
    pairs = w.ask(SCORE, text_1=[QUERY, QUERY])["data"]
    assert [each["score"] for each in pairs] == pytest.approx([each["score"] for each in one], abs=0.02)
    w.refused(SCORE, "nobody", 404, model="nobody")
    w.refused(SCORE, "text_2", text_1=[QUERY] * 3)


@walks(
    "/tokenize",
    "model",
    "content",
    "prompt",
    "messages",
    "tools",
    "chat_template_kwargs",
    "with_pieces",
    "return_token_strs",
)
def tokenize(w: Walker) -> None:
    path = "/tokenize"
    plain = w.ask(path)
    assert w.ask(path, content=None, prompt=MONTHS, model=CHAT) == plain
    turned = w.ask(path, content=None, messages=SAID)["count"]
    assert turned > plain["count"]
    tools = [{"type": "function", "function": FUNCTION}]
    assert w.ask(path, content=None, messages=SAID, tools=tools)["count"] > turned
    assert "".join(each["piece"] for each in w.ask(path, with_pieces=True)["tokens"]) == MONTHS
    assert "".join(w.ask(path, return_token_strs=True)["token_strs"]) == MONTHS
    w.refused(path, "has no option", content=None, messages=SAID, chat_template_kwargs={"x": 1})
    w.refused(path, "give one of", prompt="both")
    w.refused(path, "nobody", 404, model="nobody")


@walks("/detokenize", "tokens", "model")
def detokenize(w: Walker) -> None:
    tokens = w.ask("/tokenize")["tokens"]
    assert w.ask("/detokenize", tokens=tokens, model=CHAT)["content"] == MONTHS
    w.refused("/detokenize", "nobody", 404, model="nobody")


@walks("/apply-template", "messages", "model", "tools", "chat_template_kwargs")
def apply_template(w: Walker) -> None:
    path = "/apply-template"
    assert MONTHS in w.ask(path, model=CHAT)["prompt"]
    tools = [{"type": "function", "function": FUNCTION}]
    assert "get_weather" in w.ask(path, tools=tools)["prompt"]
    w.refused(path, "has no option", chat_template_kwargs={"x": 1})
    w.refused(path, "nobody", 404, model="nobody")


@walks("/api/embed", "model", "input", "dimensions")
def embed(w: Walker) -> None:
    (one,) = w.ask("/api/embed")["embeddings"]
    assert w.ask("/api/embed", input=["a cat", "a dog"])["embeddings"][0] == pytest.approx(one, abs=1e-5)
    (other,) = w.ask("/api/embed", model=f"{MULTILINGUAL}:latest", dimensions=384)["embeddings"]
    assert other != pytest.approx(one, abs=1e-3)
    w.refused("/api/embed", "always gives 384 dimensions", dimensions=32)
    w.refused("/api/embed", "nobody", 404, model="nobody")


@walks("/api/embeddings", "model", "prompt")
def embeddings(w: Walker) -> None:
    cat, dog = (w.ask("/api/embeddings", prompt=each)["embedding"] for each in ("a cat", "a dog"))
    assert cat != dog
    assert len(w.ask("/api/embeddings", model=f"{EMBED}:latest")["embedding"]) == 384


@walks("/api/show", "model", "name")
def show(w: Walker) -> None:
    assert w.ask("/api/show") == w.ask("/api/show", model=None, name=CHAT)
    assert w.ask("/api/show", model=EMBED)["capabilities"] == ["embedding"]
    w.refused("/api/show", "'model' is required", model=None)
