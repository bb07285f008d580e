"""The paths that no standard has, each in the words of the program it comes from."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.serving import CHAT, RERANK

QUERY = "How many people live in Berlin?"
DOCUMENTS = ["Berlin is well known for its museums.", "Berlin has 3.5 million inhabitants."]


def ask(http: httpx.Client, path: str, **body: Any) -> Any:
    response = http.post(path, json=body)
    assert response.status_code == 200, response.text
    return response.json()


def test_every_rerank_gives_the_same_order(http: httpx.Client) -> None:
    asked = {"query": QUERY, "documents": DOCUMENTS, "model": RERANK}
    ours = ask(http, "/v1/rerank", **asked)["results"]
    assert [each["index"] for each in ours] == [1, 0]
    cohere = ask(http, "/v2/rerank", **asked, top_n=1)
    assert [each["index"] for each in cohere["results"]] == [1]
    assert cohere["results"][0]["relevance_score"] == pytest.approx(ours[0]["relevance_score"])
    assert cohere["meta"]["api_version"]["version"] == "2"
    texts = ask(http, "/rerank", query=QUERY, texts=DOCUMENTS, return_text=True)
    assert [each["text"] for each in texts] == [DOCUMENTS[1], DOCUMENTS[0]]
    assert texts[0]["score"] == pytest.approx(ours[0]["relevance_score"])
    raw = ask(http, "/rerank", query=QUERY, texts=DOCUMENTS, raw_scores=True)
    assert raw[0]["score"] == pytest.approx(ours[0]["logit"])
    assert ask(http, "/rerank", **asked)["results"] == ours


def test_scores_are_given_in_pairs(http: httpx.Client) -> None:
    one = ask(http, "/v1/score", model=RERANK, text_1=QUERY, text_2=DOCUMENTS)
    assert [each["index"] for each in one["data"]] == [0, 1]
    assert one["data"][1]["score"] > one["data"][0]["score"]
    pairs = ask(http, "/v1/score", model=RERANK, text_1=[QUERY, "museums"], text_2=DOCUMENTS)
    assert pairs["data"][0]["score"] == pytest.approx(one["data"][0]["score"], abs=0.02)
    assert len(pairs["data"]) == 2
    wrong = http.post("/v1/score", json={"model": RERANK, "text_1": ["a", "b"], "text_2": ["a", "b", "c"]})
    assert wrong.status_code == 400
    assert wrong.json()["error"]["param"] == "text_2"


def test_tokens_and_text_are_each_others_inverse(http: httpx.Client) -> None:
    text = "Grüße, 世界! 👋🏽"
    found = ask(http, "/tokenize", content=text)
    assert ask(http, "/detokenize", tokens=found["tokens"])["content"] == text
    assert (found["count"], found["max_model_len"]) == (len(found["tokens"]), 8192)
    assert ask(http, "/tokenize", model=CHAT, prompt=text)["tokens"] == found["tokens"]
    pieces = ask(http, "/tokenize", content="Hello world", with_pieces=True)["tokens"]
    assert "".join(each["piece"] for each in pieces) == "Hello world"


def test_the_template_is_what_an_answer_begins_after(http: httpx.Client) -> None:
    messages = [{"role": "user", "content": "Hello <|im_end|>"}]
    prompt = ask(http, "/apply-template", messages=messages)["prompt"]
    assert prompt.endswith("<|im_start|>assistant\n")
    tokens = ask(http, "/tokenize", messages=messages)
    answer = ask(http, "/v1/chat/completions", model=CHAT, messages=messages, max_tokens=1)
    assert tokens["count"] == answer["usage"]["prompt_tokens"]


def test_the_server_looks_at_itself(http: httpx.Client) -> None:
    props = http.get("/props").json()
    assert props["default_generation_settings"]["n_ctx"] == 8192
    slots = http.get("/slots").json()
    assert len(slots) == props["total_slots"]
    assert not any(slot["is_processing"] for slot in slots)
    assert http.get("/health").json() == {"status": "ok"}
    assert http.get("/props", params={"model": "gpt-4o"}).status_code == 404
