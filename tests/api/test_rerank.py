"""POST /v1/rerank and /rerank, in the shape that Jina and Cohere share."""

from __future__ import annotations

import math
from typing import Any

import httpx
import pytest

from tests.serving import RERANK

QUERY = "How many people live in Berlin?"
DOCUMENTS = [
    "Berlin is well known for its museums.",
    "Berlin had a population of 3,520,031 registered inhabitants in an area of 891.82 square kilometers.",
    "New York City is the most populous city of the United States.",
]


def rank(http: httpx.Client, path: str = "/v1/rerank", **parameters: Any) -> dict[str, Any]:
    body = {"model": RERANK, "query": QUERY, "documents": DOCUMENTS, **parameters}
    response = http.post(path, json=body)
    assert response.status_code == 200, response.text
    ranking: dict[str, Any] = response.json()
    return ranking


def test_the_passage_that_answers_comes_first(http: httpx.Client) -> None:
    results = rank(http)["results"]
    assert [result["index"] for result in results] == [1, 0, 2]
    # The logits that the model's own card gives for the first two of these pairs are 9.2 and -1.3.
    assert results[0]["logit"] > 5
    assert results[2]["logit"] < 0
    assert all("document" not in result for result in results)


def test_the_score_is_the_logistic_function_of_the_logit(http: httpx.Client) -> None:
    for result in rank(http)["results"]:
        assert result["relevance_score"] == pytest.approx(1 / (1 + math.exp(-result["logit"])))
        assert 0 < result["relevance_score"] < 1


def test_top_n_keeps_the_best(http: httpx.Client) -> None:
    assert [result["index"] for result in rank(http, top_n=1)["results"]] == [1]
    assert len(rank(http, top_n=99)["results"]) == 3


def test_documents_come_back_when_asked_for(http: httpx.Client) -> None:
    results = rank(http, return_documents=True)["results"]
    assert [result["document"]["text"] for result in results] == [DOCUMENTS[1], DOCUMENTS[0], DOCUMENTS[2]]


def test_documents_may_be_objects(http: httpx.Client) -> None:
    objects = [{"text": document} for document in DOCUMENTS]
    assert rank(http, documents=objects)["results"] == rank(http)["results"]


def test_both_paths_answer_alike(http: httpx.Client) -> None:
    assert rank(http, "/rerank")["results"] == rank(http)["results"]


def test_a_document_too_long_is_scored_by_its_beginning_and_told(http: httpx.Client) -> None:
    ranking = rank(http, documents=[DOCUMENTS[0], DOCUMENTS[1] + " More." * 2000])
    assert ranking["results"][0]["index"] == 1
    assert ranking["warnings"][0].startswith("documents[1]: longer than fits")


def test_a_query_too_long_is_refused(http: httpx.Client) -> None:
    response = http.post("/v1/rerank", json={"model": RERANK, "query": "word " * 600, "documents": DOCUMENTS})
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["code"], error["param"]) == ("context_length_exceeded", "query")


def test_a_query_in_another_language_is_warned_of(http: httpx.Client) -> None:
    assert "do not trust its scores" in rank(http, query="柏林有多少居民？")["warnings"][0]


def test_an_empty_document_is_the_least_relevant(http: httpx.Client) -> None:
    assert rank(http, documents=["", DOCUMENTS[1]])["results"][0]["index"] == 1


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"documents": []}, "documents"),
        ({"documents": ["x", 3]}, "documents[1]"),
        ({"documents": [{"text": 3}]}, "documents[0].text"),
        ({"documents": [{"txt": "x"}]}, "documents[0].txt"),
        ({"documents": [{}]}, "documents[0].text"),
        ({"documents": "x"}, "documents"),
        ({"query": ""}, "query"),
        ({"query": None}, "query"),
    ],
)
def test_a_wrong_field_is_refused_by_place(http: httpx.Client, wrong: dict[str, Any], param: str) -> None:
    body = {"model": RERANK, "query": QUERY, "documents": DOCUMENTS, **wrong}
    response = http.post("/v1/rerank", json=body)
    assert response.status_code == 400, response.text
    assert response.json()["error"]["param"] == param
