"""/api through the real ollama client: what its users' programs do, and what they catch."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import ollama
import pytest

from tests.conftest import StartServer
from tests.serving import CHAT, EMBED, Served

QUESTION: list[Any] = [{"role": "user", "content": "List the months of the year."}]
COLD = {"temperature": 0, "num_predict": 12}
SCHEMA = {
    "type": "object",
    "properties": {"month": {"type": "string", "maxLength": 9}},
    "required": ["month"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def client(server: Served) -> Iterator[ollama.Client]:
    with ollama.Client(host=server.url, timeout=60) as made:
        yield made


def test_a_chat_is_answered_whole_and_as_a_stream(client: ollama.Client) -> None:
    whole = client.chat(CHAT, QUESTION, options=COLD)
    assert "January" in (whole.message.content or "")
    assert (whole.done, whole.done_reason, whole.eval_count) == (True, "length", 12)
    assert whole.prompt_eval_count
    assert whole.total_duration
    parts = list(client.chat(f"{CHAT}:latest", QUESTION, options=COLD, stream=True))
    assert "".join(part.message.content or "" for part in parts) == whole.message.content
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    assert parts[-1].eval_count == 12
    assert parts[0].created_at


def test_streaming_is_on_unless_it_is_turned_off(server: Served) -> None:
    response = server.http.post("/api/chat", json={"model": CHAT, "messages": QUESTION, "options": COLD})
    assert response.headers["content-type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in response.text.splitlines()]
    assert len(lines) > 3
    assert lines[-1]["done"]


def test_text_is_generated(client: ollama.Client) -> None:
    asked = client.generate(CHAT, QUESTION[0]["content"], options=COLD)
    assert asked.response == client.chat(CHAT, QUESTION, options=COLD).message.content
    raw = client.generate(CHAT, "January, February,", raw=True, options=COLD)
    assert raw.response
    parts = list(client.generate(CHAT, "January, February,", raw=True, options=COLD, stream=True))
    assert "".join(part.response or "" for part in parts) == raw.response


def test_an_answer_keeps_to_its_schema(client: ollama.Client) -> None:
    answer = client.chat(CHAT, QUESTION, format=SCHEMA, options={"num_predict": 40})
    assert set(json.loads(answer.message.content or "")) == {"month"}
    words = client.generate(CHAT, "Say it in JSON.", format="json", options={"num_predict": 40})
    assert isinstance(json.loads(words.response or ""), dict)


def test_tools_and_their_results_are_read(client: ollama.Client) -> None:
    def get_weather(city: str) -> str:
        """The weather of a city.

        Args:
          city: its name
        """
        return city

    messages = [
        *QUESTION,
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"function": {"name": "get_weather", "arguments": {"city": "Rome"}}}],
        },
        {"role": "tool", "content": "sunny", "tool_name": "get_weather"},
    ]
    answer = client.chat(CHAT, messages, tools=[get_weather], options=COLD)
    assert answer.done
    with pytest.raises(ollama.ResponseError, match="a call that is not there"):
        client.chat(CHAT, [*messages, messages[-1]], options=COLD)


def test_logprobs(client: ollama.Client) -> None:
    answer = client.chat(CHAT, QUESTION, options=COLD, logprobs=True, top_logprobs=2)
    assert answer.logprobs is not None
    assert len(answer.logprobs) == 12
    assert len(answer.logprobs[0].top_logprobs or []) == 2


def test_texts_become_vectors(client: ollama.Client) -> None:
    answer = client.embed(EMBED, ["a cat", "a dog"])
    assert [len(vector) for vector in answer.embeddings] == [384, 384]
    one = client.embeddings(EMBED, "a cat")
    assert list(one.embedding) == pytest.approx(list(answer.embeddings[0]), abs=1e-5)


def test_models_are_listed_and_shown(client: ollama.Client, server: Served) -> None:
    names = [model.model for model in client.list().models]
    assert names == [model["id"] for model in server.http.get("/v1/models").json()["data"]]
    assert all(model.size and model.modified_at for model in client.list().models)
    shown = client.show(CHAT)
    assert shown.capabilities == ["completion", "tools"]
    assert client.show(EMBED).capabilities == ["embedding"]
    assert CHAT in [model.model for model in client.ps().models]
    assert server.http.get("/api/version").json() == server.http.get("/version").json()


def test_errors_are_ollamas(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError, match="there is no model") as missing:
        client.chat("llama3", QUESTION)
    assert missing.value.status_code == 404
    with pytest.raises(ollama.ResponseError, match="read and write text only"):
        client.generate(CHAT, "What is this?", images=["aGk="])
    with pytest.raises(ollama.ResponseError, match="not by clients") as unserved:
        client.pull("llama3")
    assert unserved.value.status_code == 501


def test_what_is_ignored_is_told(server: Served) -> None:
    body = {"model": CHAT, "messages": QUESTION, "stream": False, "options": {**COLD, "num_ctx": 4096}}
    response = server.http.post("/api/chat", json=body)
    assert "options.num_ctx is ignored" in response.json()["warnings"][0]
    body["options"] = {"temprature": 0}
    assert "temperature" in server.http.post("/api/chat", json=body).json()["error"]


def test_a_model_is_loaded_and_unloaded_by_saying_nothing(start_server: StartServer) -> None:
    served = start_server()
    with ollama.Client(host=served.url, timeout=60) as client:
        assert client.generate(CHAT, keep_alive=0).done_reason == "unload"
        served.wait_until(lambda: not client.ps().models, 30)
        assert client.generate(CHAT, keep_alive="5m").done_reason == "load"
        served.wait_until(lambda: bool(client.ps().models), 30)
        assert client.ps().models[0].expires_at is not None


def test_many_at_once(server: Served) -> None:
    async def ask() -> list[str]:
        async with ollama.AsyncClient(host=server.url) as client:
            made = await asyncio.gather(*(client.chat(CHAT, QUESTION, options=COLD) for _ in range(6)))
            return [each.message.content or "" for each in made]

    assert all("January" in text for text in asyncio.run(ask()))
