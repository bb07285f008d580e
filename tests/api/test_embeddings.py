"""POST /v1/embeddings: every form of input and output."""

from __future__ import annotations

import base64
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.serving import EMBED, MULTILINGUAL

PATH = "/v1/embeddings"
HELLO_WORLD_IDS = [7592, 2088]  # in the vocabulary that MiniLM took over from BERT


def embed(http: httpx.Client, input: Any, **parameters: Any) -> NDArray[np.float32]:
    response = http.post(PATH, json={"model": EMBED, "input": input, **parameters})
    assert response.status_code == 200, response.text
    rows = response.json()["data"]
    assert [row["index"] for row in rows] == list(range(len(rows)))
    return np.array([row["embedding"] for row in rows], np.float32)


def test_one_text_gives_one_vector_of_length_one(http: httpx.Client) -> None:
    vectors = embed(http, "hello world")
    assert vectors.shape == (1, 384)
    assert np.linalg.norm(vectors[0]) == pytest.approx(1, abs=1e-5)


def test_every_form_of_input_gives_the_same_vector(http: httpx.Client) -> None:
    text = embed(http, "hello world")
    for same in (["hello world"], HELLO_WORLD_IDS, [HELLO_WORLD_IDS]):
        assert np.allclose(embed(http, same), text, atol=1e-5), same


def test_a_list_keeps_its_order_whatever_the_lengths(http: httpx.Client) -> None:
    texts = ["a cat sat on the mat " * 8, "hi", "the quick brown fox jumps"]
    together = embed(http, texts)
    alone = np.concatenate([embed(http, text) for text in texts])
    # The model is quantised dynamically: a row's neighbours shift its scale a little.
    assert all(a @ b > 0.98 for a, b in zip(together, alone, strict=True))
    assert np.argmax(together @ alone.T, axis=1).tolist() == [0, 1, 2]


def test_paraphrases_are_nearest(http: httpx.Client) -> None:
    first, second, other = embed(
        http, ["How do I reset my password?", "I forgot my password", "The soup is hot"]
    )
    assert first @ second > first @ other + 0.2


def test_base64_and_float_are_the_same_numbers(http: httpx.Client) -> None:
    body = {"model": EMBED, "input": "hello world", "encoding_format": "base64"}
    encoded = http.post(PATH, json=body).json()["data"][0]["embedding"]
    assert np.array_equal(np.frombuffer(base64.b64decode(encoded), "<f4"), embed(http, "hello world")[0])


def test_usage_counts_the_tokens(http: httpx.Client) -> None:
    usage = http.post(PATH, json={"model": EMBED, "input": "hello world"}).json()["usage"]
    assert usage == {"prompt_tokens": 4, "total_tokens": 4}  # [CLS] hello world [SEP]


def test_dimensions_may_be_the_models_own_and_no_other(http: httpx.Client) -> None:
    assert embed(http, "hi", dimensions=384).shape == (1, 384)
    for dimensions in (128, 385):
        response = http.post(PATH, json={"model": EMBED, "input": "hi", "dimensions": dimensions})
        assert response.status_code == 400
        assert response.json()["error"]["param"] == "dimensions"


def test_too_long_an_input_is_refused_never_cut(http: httpx.Client) -> None:
    response = http.post(PATH, json={"model": EMBED, "input": ["hi", "word " * 300]})
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["code"], error["param"]) == ("context_length_exceeded", "input[1]")


@pytest.mark.parametrize(
    ("input", "param"),
    [
        ("", "input"),
        ([], "input"),
        (["hi", ""], "input[1]"),
        ([HELLO_WORLD_IDS, []], "input[1]"),
        ([7592, 30_522], "input[0]"),
        ([7592, True], "input[1]"),
        (["hi", 7592], "input"),
        (["hi"] * 2049, "input"),
        ({"text": "hi"}, "input"),
        (7592, "input"),
    ],
)
def test_a_wrong_input_is_refused_by_place(http: httpx.Client, input: Any, param: str) -> None:
    response = http.post(PATH, json={"model": EMBED, "input": input})
    assert response.status_code == 400, response.text
    assert response.json()["error"]["param"] == param


def test_the_multilingual_model_brings_languages_together(http: httpx.Client) -> None:
    texts = ["Where is the railway station?", "火车站在哪里？", "I like strawberry ice cream."]
    rows = http.post(PATH, json={"model": MULTILINGUAL, "input": texts}).json()["data"]
    english, chinese, other = (np.array(row["embedding"]) for row in rows)
    assert english @ chinese > english @ other
    assert english @ chinese > chinese @ other


def test_queries_and_passages_differ_where_the_model_tells_them_apart(http: httpx.Client) -> None:
    def first(model: str, kind: str) -> list[float]:
        body = {"model": model, "input": "the railway station", "input_type": kind}
        found: list[float] = http.post(PATH, json=body).json()["data"][0]["embedding"]
        return found

    assert first(MULTILINGUAL, "query") != first(MULTILINGUAL, "passage")
    assert first(EMBED, "query") == first(EMBED, "passage")


def test_a_language_the_model_does_not_know_is_warned_of(http: httpx.Client) -> None:
    response = http.post(PATH, json={"model": EMBED, "input": "火车站在哪里？"})
    assert response.json()["warnings"] == [f"{EMBED} was trained on en text only"]
    assert "trained on en" in response.headers["x-hearth-warning"]
