"""Chat with a knowledge base, by the model's name and by the body field, whole and as a stream."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest

from tests.conftest import StartServer
from tests.serving import CHAT, EMBED, Served, events_of, text_of

MOON = "# The Moon\n\nNeil Armstrong was the first person who walked on the Moon, in July 1969.\n"
QUESTION = "Who was the first person who walked on the Moon?"
OTHER = "Which parliament passed the fishing quota of 1987?"


@pytest.fixture(scope="module")
def sdk(server: Served) -> Iterator[openai.OpenAI]:
    server.wait_ready()
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", timeout=120, max_retries=0) as client:
        yield client


@pytest.fixture(scope="module", autouse=True)
def base(sdk: openai.OpenAI) -> Iterator[str]:
    made = sdk.vector_stores.create(name="sky", extra_body={"embedder": EMBED})
    sdk.vector_stores.files.upload_and_poll(
        vector_store_id=made.id, file=("moon.md", MOON.encode()), poll_interval_ms=50
    )
    yield made.id
    sdk.vector_stores.delete(made.id)


def ask(server: Served, model: str, question: str = QUESTION, **more: object) -> dict[str, object]:
    body = {
        "model": model,
        "messages": [{"role": "user", "content": question}],
        "temperature": 0,
        "max_tokens": 40,
        **more,
    }
    response = server.http.post("/v1/chat/completions", json=body)
    assert response.status_code == 200, response.text
    answer: dict[str, object] = response.json()
    return answer


def message(answer: dict[str, object]) -> dict[str, object]:
    found: dict[str, object] = answer["choices"][0]["message"]  # type: ignore[index]
    return found


def test_a_base_is_a_model(sdk: openai.OpenAI) -> None:
    assert f"{CHAT}@sky" in [model.id for model in sdk.models.list()]
    assert sdk.models.retrieve(f"{CHAT}@sky").id == f"{CHAT}@sky"
    with pytest.raises(openai.NotFoundError):
        sdk.models.retrieve(f"{CHAT}@ground")


def test_an_answer_cites_its_passage(server: Served) -> None:
    said = message(ask(server, f"{CHAT}@sky"))
    text = str(said["content"])
    assert "Armstrong" in text
    annotation = said["annotations"][0]  # type: ignore[index]
    cited = annotation["file_citation"]
    assert annotation["type"] == "file_citation"
    assert text[cited["start_index"] : cited["end_index"]] == f"[{cited['number']}]"
    assert (cited["filename"], cited["heading"]) == ("moon.md", "The Moon")
    assert "Armstrong" in cited["quote"]
    assert 0 < cited["score"] <= 1


def test_the_body_field_says_the_same(server: Served) -> None:
    by_name = ask(server, f"{CHAT}@sky", deterministic=True)
    by_field = ask(server, CHAT, knowledge="sky", deterministic=True)
    assert message(by_name) == message(by_field)
    assert by_name["usage"]["prompt_tokens"] > ask(server, CHAT)["usage"]["prompt_tokens"]  # type: ignore[index]


def test_a_stream_ends_with_the_citations(server: Served) -> None:
    body = {
        "model": f"{CHAT}@sky",
        "messages": [{"role": "user", "content": QUESTION}],
        "temperature": 0,
        "max_tokens": 40,
        "deterministic": True,
        "stream": True,
    }
    with server.http.stream("POST", "/v1/chat/completions", json=body) as response:
        events = events_of(response)
    whole = message(ask(server, f"{CHAT}@sky", deterministic=True))
    assert text_of(events) == whole["content"]
    last = [event for event in events if event["choices"] and event["choices"][0]["finish_reason"]][-1]
    assert last["choices"][0]["delta"]["annotations"] == whole["annotations"]


def test_nothing_relevant_is_said_instead_of_invented(server: Served) -> None:
    said = message(ask(server, f"{CHAT}@sky", OTHER))
    assert said["content"] == "There is nothing about this in the knowledge base “sky”."
    assert "annotations" not in said
    chinese = message(ask(server, f"{CHAT}@sky", "一九八七年的捕鱼配额是哪个议会通过的？"))
    assert "没有" in str(chinese["content"])


@pytest.mark.parametrize(
    ("model", "more", "status", "param"),
    [
        (f"{CHAT}@ground", {}, 404, "knowledge"),
        (CHAT, {"knowledge": "ground"}, 404, "knowledge"),
        (f"{CHAT}@sky", {"knowledge": "ground"}, 400, "knowledge"),
        ("nobody@sky", {}, 404, "model"),
    ],
)
def test_a_wrong_base_is_told(
    server: Served, model: str, more: dict[str, str], status: int, param: str
) -> None:
    body = {"model": model, "messages": [{"role": "user", "content": "x"}], **more}
    response = server.http.post("/v1/chat/completions", json=body)
    assert response.status_code == status
    assert response.json()["error"]["param"] == param


def test_an_answer_is_given_again_until_the_base_changes(start_server: StartServer) -> None:
    own = start_server("knowledge.answer_cache_seconds=600", models=(CHAT, EMBED))
    with openai.OpenAI(base_url=f"{own.url}/v1", api_key="any", timeout=120, max_retries=0) as client:
        made = client.vector_stores.create(name="sky")
        client.vector_stores.files.upload_and_poll(
            vector_store_id=made.id, file=("moon.md", MOON.encode()), poll_interval_ms=50
        )
        first = ask(own, f"{CHAT}@sky", temperature=1.5)
        assert first["warnings"] == []
        again = ask(own, f"{CHAT}@sky", temperature=1.5)
        assert message(again) == message(first)
        assert "given again" in str(again["warnings"])
        assert ask(own, f"{CHAT}@sky", temperature=1.4)["warnings"] == []
        client.vector_stores.files.upload_and_poll(
            vector_store_id=made.id, file=("more.md", b"The Moon is far."), poll_interval_ms=50
        )
        assert ask(own, f"{CHAT}@sky", temperature=1.5)["warnings"] == []
