"""Real peers as upstreams: another Hearth, and llama-server where one is built."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from models.store import Store
from tests.clients.routed import platform, services, serving, write_settings
from tests.conftest import require
from tests.serving import CHAT, EMBED, RERANK, Served, chat_body, events_of, store_directory, text_of
from tests.upstream.behaviour import Behaviour

DOCUMENTS = ["Berlin has museums.", "Berlin has 3.5 million inhabitants.", "Cats sleep."]
PATIENT = {"first_byte_seconds": 60.0, "between_bytes_seconds": 30.0}


@pytest.fixture(scope="module")
def whole(server: Served) -> str:
    """An answer of the peer's; asked again it may differ in what is rounded."""
    answer: str = server.chat(temperature=0, max_tokens=24).json()["choices"][0]["message"]["content"]
    return answer


@pytest.fixture(scope="module")
def front(server: Served, whole: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A Hearth whose online service is the tests' shared Hearth, behind one that cuts its streams."""
    require([CHAT, EMBED, RERANK])
    home = tmp_path_factory.mktemp("front") / "home"
    with services(whole) as (cutting,):
        cutting.default = Behaviour(cut_after=12, ending="close")
        models = [
            {
                "name": CHAT,
                "public_name": "peer",
                "quality": 80,
                "capabilities": ["tools", "schema", "grammar"],
            },
            {"name": EMBED, "public_name": "peer-embed", "role": "embed"},
            {"name": RERANK, "public_name": "peer-rerank", "role": "rerank"},
        ]
        peer = platform("peer", f"{server.url}/v1", type="hearth", **PATIENT) | {"models": models}
        write_settings(
            home,
            platform("cutting", cutting.url, 90),
            peer,
            rules=[
                {"task": "embed", "model": "peer-*", "policy": "online-first"},
                {"task": "rerank", "model": "peer-*", "policy": "online-first"},
            ],
        )
        with serving(home) as served:
            yield served


def test_a_chat_is_answered_by_the_peer(front: Served, server: Served) -> None:
    fields: dict[str, Any] = {"temperature": 0, "max_tokens": 12, "top_k": 20, "deterministic": True}
    ours = front.http.post("/v1/chat/completions", json=chat_body(**fields) | {"model": "peer"})
    theirs = server.chat(**fields)
    assert ours.headers["x-hearth-attempts"] == "peer/peer ok"
    assert ours.json()["choices"][0]["message"] == theirs.json()["choices"][0]["message"]
    assert ours.json()["usage"]["completion_tokens"] == theirs.json()["usage"]["completion_tokens"]


def test_a_cut_stream_goes_on_with_the_peer_as_the_peer_would_have_said_it(front: Served, whole: str) -> None:
    body = chat_body(stream=True, temperature=0, max_tokens=40, stream_options={"include_usage": True})
    events = events_of(front.http.post("/v1/chat/completions", json=body | {"model": "auto"}))
    (place,) = events[-1]["usage"]["hearth"]["continuations"]
    assert place["model"] == "peer"
    said = text_of(event for event in events if event["choices"])
    assert said[: place["characters"]] == whole[: place["characters"]]
    assert len(said) > place["characters"] + 5


def test_a_schema_and_a_regex_are_kept_by_the_peer(front: Served) -> None:
    schema = {"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"]}
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    answer = front.http.post(
        "/v1/chat/completions", json=chat_body(response_format=form, max_tokens=40) | {"model": "peer"}
    )
    assert answer.headers["x-hearth-route"] == "online"
    assert json.loads(answer.json()["choices"][0]["message"]["content"])["n"] in (1, 2)
    answer = front.http.post(
        "/v1/chat/completions", json=chat_body(regex="(yes|no)", max_tokens=8) | {"model": "peer"}
    )
    assert answer.headers["x-hearth-route"] == "online"
    assert answer.json()["choices"][0]["message"]["content"] in ("yes", "no")


def test_embeddings_go_to_the_peer_where_a_rule_says_so(front: Served, server: Served) -> None:
    asked = {"input": ["one", "two"], "encoding_format": "base64"}
    ours = front.http.post("/v1/embeddings", json=asked | {"model": "peer-embed"})
    theirs = server.http.post("/v1/embeddings", json=asked | {"model": EMBED})
    assert ours.headers["x-hearth-route"] == "online", ours.text
    for here, there in zip(ours.json()["data"], theirs.json()["data"], strict=True):
        rows = [np.frombuffer(base64.b64decode(row["embedding"]), "<f4") for row in (here, there)]
        assert np.allclose(*rows, atol=1e-6)
    refused = front.http.post("/v1/embeddings", json=asked | {"model": "peer-embed", "input": [[1, 2]]})
    assert refused.status_code == 400, "token ids mean nothing to another service"


def test_rerank_goes_to_the_peer_where_a_rule_says_so(front: Served, server: Served) -> None:
    asked = {"query": "How many people live in Berlin?", "documents": DOCUMENTS}
    ours = front.http.post("/v1/rerank", json=asked | {"model": "peer-rerank"})
    theirs = server.http.post("/v1/rerank", json=asked | {"model": RERANK})
    assert ours.headers["x-hearth-route"] == "online", ours.text
    assert [each["index"] for each in ours.json()["results"]] == [1, 0, 2]
    for here, there in zip(ours.json()["results"], theirs.json()["results"], strict=True):
        assert here["logit"] == pytest.approx(there["logit"], abs=1e-4)


# llama-server


def llama_server() -> Path | None:
    named = os.environ.get("LLAMA_SERVER")
    found = (
        [Path(named)]
        if named
        else sorted((Path.home() / ".cache" / "hearth").glob("llama.cpp-*/**/llama-server"))
    )
    return next((path for path in found if path.is_file() and os.access(path, os.X_OK)), None)


def weights_of(model: str) -> Path:
    store = Store(store_directory())
    return store.path(model, store.get(model).manifest.files[0].path)


@pytest.fixture(scope="module")
def llama() -> Iterator[str]:
    program = llama_server()
    if program is None:
        pytest.skip("no llama-server here; $LLAMA_SERVER names one")
    require([CHAT])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    command = [
        str(program),
        "-m",
        str(weights_of(CHAT)),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "-t",
        "1",
    ]
    with subprocess.Popen(
        [*command, "-c", "2048", "--jinja"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            ends_at = time.monotonic() + 60
            while time.monotonic() < ends_at and process.poll() is None:
                try:
                    if httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False).status_code == 200:
                        break
                except httpx.TransportError:
                    pass
                time.sleep(0.1)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()


def test_llama_server_answers_and_goes_on_where_another_was_cut(llama: str, tmp_path: Path) -> None:
    text = "The sky is blue because the air scatters blue light more than red light, and so"
    with services(text) as (cutting,):
        write_settings(
            tmp_path / "home",
            platform("cutting", cutting.url, 90),
            platform("llama", llama, 80, type="llama-server", **PATIENT),
        )
        with serving(tmp_path / "home") as front:
            plain = front.http.post(
                "/v1/chat/completions", json=chat_body(max_tokens=8, temperature=0) | {"model": "llama"}
            )
            assert plain.headers["x-hearth-attempts"] == "llama/llama ok", plain.text
            assert plain.json()["usage"]["completion_tokens"] == 8
            cutting.script(Behaviour(cut_after=60, ending="close"))
            body = chat_body(
                stream=True, max_tokens=40, temperature=0, stream_options={"include_usage": True}
            )
            events = events_of(front.http.post("/v1/chat/completions", json=body | {"model": "auto"}))
            (place,) = events[-1]["usage"]["hearth"]["continuations"]
            said = text_of(event for event in events if event["choices"])
            assert place["model"] == "llama"
            assert said[: place["characters"]] == text[: place["characters"]]
            assert len(said) > place["characters"]
