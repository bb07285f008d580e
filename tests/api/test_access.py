"""Who may call what: keys over a real server, from the first key on."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from appliance import admin
from appliance.api.openapi import DOCUMENT_OPERATION
from appliance.api.operation import Operation
from appliance.api.routes import OPERATIONS
from appliance.client import Client, RemoteError
from appliance.principal import ROLES, Grant, Rates
from tests.conftest import require
from tests.serving import CHAT, EMBED, Served, parse_events
from tests.tiny_server import StartTiny, TinyServer


def client_of(server: TinyServer, secret: str = "") -> httpx.Client:
    headers = {"authorization": f"Bearer {secret}"} if secret else {}
    return httpx.Client(base_url=server.url, headers=headers, timeout=60, trust_env=False)


def create(server: TinyServer, admin_key: str, name: str, **grant: Any) -> admin.IssuedKey:
    with Client(server.url, admin_key or None) as client:
        return client.create_key(admin.NewKey(name=name, grant=Grant(**grant)))


def worker_of(client: Client, name: str) -> psutil.Process:
    """It is stood still where an answer might be over too soon."""
    return psutil.Process(next(each.pid for each in client.status().workers if each.name == name))


@pytest.fixture
def keyed(start_tiny: StartTiny) -> tuple[TinyServer, str]:
    """A server with one admin key, and its secret."""
    server = start_tiny()
    return server, create(server, "", "boss", role="admin").secret


def test_an_operation_without_a_declared_role_is_refused() -> None:
    with pytest.raises(TypeError, match="access"):
        Operation("GET", "/x", DOCUMENT_OPERATION.handler, "nobody said who", "text/plain")  # type: ignore[call-arg]


def test_every_operation_declares_a_role() -> None:
    assert {each.access for each in (*OPERATIONS, DOCUMENT_OPERATION)} == {*ROLES, "public"}
    assert {each.path for each in OPERATIONS if each.access == "public"} == {"/health", "/healthz", "/readyz"}


def test_without_keys_whoever_reaches_the_server_is_its_own_user(start_tiny: StartTiny) -> None:
    server = start_tiny()
    with Client(server.url, "unused") as client:
        assert client.whoami() == admin.Whoami(
            id="local", name="local", credential="", grant=client.whoami().grant
        )
        assert client.whoami().grant.role == "admin"
        with pytest.raises(RemoteError, match="first key must be an admin's"):
            client.create_key(admin.NewKey(name="early"))


def test_from_the_first_key_on_nobody_comes_in_without(keyed: tuple[TinyServer, str]) -> None:
    server, secret = keyed
    with client_of(server) as stranger:
        refused = stranger.get("/v1/models")
        assert refused.status_code == 401
        assert refused.json()["error"]["code"] == "missing_api_key"
        assert refused.headers["www-authenticate"].startswith("Bearer")
        assert stranger.get("/nowhere").status_code == 401
        assert stranger.get("/healthz").status_code == 200
        assert stranger.get("/v1/models", headers={"x-api-key": secret}).status_code == 200
        assert stranger.get("/v1/models", headers={"authorization": f"Basic {secret}"}).status_code == 401
        both = {"authorization": f"Bearer {secret}", "x-api-key": "other"}
        assert stranger.get("/v1/models", headers=both).status_code == 401


def test_a_revoked_key_ends_its_streams_within_a_second(keyed: tuple[TinyServer, str]) -> None:
    server, boss = keyed
    issued = create(server, boss, "worker")
    body = {"model": "ada", "prompt": "hi", "max_tokens": 400, "ignore_eos": True, "stream": True}
    with client_of(server, issued.secret) as worker, Client(server.url, boss) as owner:
        process = worker_of(owner, "ada")
        with worker.stream("POST", "/v1/completions", json=body) as response:
            assert response.status_code == 200
            pieces = response.iter_raw()
            next(pieces)
            process.suspend()
            began = time.monotonic()
            owner.revoke_key("worker")
            rest = b"".join(pieces)
            assert time.monotonic() - began < 1
        process.resume()
        events, is_done = parse_events(rest)
        assert not is_done
        assert events[-1]["error"]["code"] == "credential_ended"
        assert worker.get("/v1/models").status_code == 401
        server.wait_until(lambda: owner.active_requests() == (), 5)


def test_what_runs_in_the_background_ends_with_its_key(keyed: tuple[TinyServer, str]) -> None:
    server, boss = keyed
    issued = create(server, boss, "worker")
    body = {"model": "ada", "input": "hi", "max_output_tokens": 400, "background": True}
    with client_of(server, issued.secret) as worker, Client(server.url, boss) as owner:
        process = worker_of(owner, "ada")
        process.suspend()
        assert worker.post("/v1/responses", json=body).status_code == 200
        server.wait_until(lambda: len(owner.active_requests()) == 1, 5)
        owner.change_key("worker", admin.KeyChange(grant=Grant(role="reader")))
        server.wait_until(lambda: owner.active_requests() == (), 1)
        process.resume()


def test_a_batch_ends_with_its_key(start_tiny: StartTiny) -> None:
    """What runs is cut off, what is left not asked; another key of the owner's gets what was answered."""
    server = start_tiny("knowledge.enabled=true")
    boss = create(server, "", "boss", role="admin").secret
    with Client(server.url, boss) as owner:
        issued, other = (
            owner.create_key(admin.NewKey(name=name, owner="team")) for name in ("worker", "second")
        )
        body = {"model": "ada", "prompt": "hi", "max_tokens": 400, "ignore_eos": True}
        lines = [
            {
                "custom_id": f"{n}",
                "method": "POST",
                "url": "/v1/completions",
                "body": body | {"max_tokens": 400 if n else 1},
            }
            for n in range(20)
        ]
        content = b"\n".join(json.dumps(line).encode() for line in lines)
        process = worker_of(owner, "ada")
        with client_of(server, issued.secret) as worker, client_of(server, other.secret) as second:
            file = worker.post(
                "/v1/files", files={"file": ("in.jsonl", content)}, data={"purpose": "batch"}
            ).json()["id"]
            asked = {"input_file_id": file, "endpoint": "/v1/completions", "completion_window": "24h"}
            batch = worker.post("/v1/batches", json=asked).json()["id"]

            def standing() -> dict[str, Any]:
                found: dict[str, Any] = second.get(f"/v1/batches/{batch}").json()
                return found

            server.wait_until(lambda: standing()["request_counts"]["completed"] > 0, 10)
            process.suspend()
            owner.revoke_key("worker")
            server.wait_until(lambda: standing()["status"] == "failed", 1)
            process.resume()
            ended = standing()
            answered = second.get(f"/v1/files/{ended['output_file_id']}/content").text.splitlines()
            assert owner.active_requests() == ()
    assert ended["errors"]["data"][0]["code"] == "revoked_api_key"
    counts = ended["request_counts"]
    assert len(answered) == counts["completed"] > 0
    assert 0 < counts["failed"] + counts["completed"] < len(lines)


@pytest.mark.parametrize(
    ("path", "body", "media_type"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}]}, "text/event-stream"),
        ("/v1/responses", {"input": "hi", "store": False}, "text/event-stream"),
        ("/v1/messages", {"messages": [{"role": "user", "content": "hi"}]}, "text/event-stream"),
        ("/api/chat", {"messages": [{"role": "user", "content": "hi"}]}, "application/x-ndjson"),
    ],
)
def test_each_surface_is_told_in_its_own_words(
    keyed: tuple[TinyServer, str], path: str, body: dict[str, Any], media_type: str
) -> None:
    server, boss = keyed
    limits = {"/api/chat": {"options": {"num_predict": 400}}, "/v1/responses": {"max_output_tokens": 400}}
    asked = {"model": "ada", "stream": True, **limits.get(path, {"max_tokens": 400}), **body}
    rest = b""
    with Client(server.url, boss) as owner:
        process = worker_of(owner, "ada")
        for attempt in range(5):  # an answer may be over before the worker stands still
            issued = create(server, boss, f"worker-{attempt}")
            with (
                client_of(server, issued.secret) as worker,
                worker.stream("POST", path, json=asked) as response,
            ):
                assert response.status_code == 200, response.read()
                assert response.headers["content-type"].startswith(media_type)
                pieces = response.iter_raw()
                next(pieces)
                process.suspend()
                owner.rotate_key(issued.key.id)
                rest = b"".join(pieces)
            process.resume()
            if b"the request was ended" in rest:
                break
    last = rest.rstrip().splitlines()[-1].removeprefix(b"data: ")
    assert b"was replaced; the request was ended" in last, rest[-300:]
    assert b'"error"' in last


def test_one_that_has_not_begun_gets_its_status(keyed: tuple[TinyServer, str]) -> None:
    server, boss = keyed
    issued = create(server, boss, "worker")
    with client_of(server, issued.secret) as worker, Client(server.url, boss) as owner:
        process = worker_of(owner, "ada")
        process.suspend()
        answers: list[httpx.Response] = []
        body = {"model": "ada", "prompt": "hi", "max_tokens": 400, "ignore_eos": True}
        asking = threading.Thread(target=lambda: answers.append(worker.post("/v1/completions", json=body)))
        asking.start()
        server.wait_until(lambda: len(owner.active_requests()) == 1, 5)
        began = time.monotonic()
        owner.revoke_key("worker")
        asking.join(5)
        assert time.monotonic() - began < 1
        process.resume()
    assert answers[0].status_code == 401
    assert answers[0].json()["error"]["code"] == "credential_ended"


def test_a_key_that_expires_ends_its_streams(keyed: tuple[TinyServer, str]) -> None:
    server, boss = keyed
    with Client(server.url, boss) as owner:
        issued = owner.create_key(admin.NewKey(name="short", expires_at=time.time() + 1.5))
        process = worker_of(owner, "ada")
        process.suspend()
        body = {"model": "ada", "prompt": "hi", "max_tokens": 400, "ignore_eos": True, "stream": True}
        with client_of(server, issued.secret) as worker:
            answer = worker.post("/v1/completions", json=body)
        assert time.time() - (issued.key.expires_at or 0) < 1
        process.resume()
    assert b"has expired" in answer.content


def test_scopes_hide_what_is_outside(keyed: tuple[TinyServer, str]) -> None:
    server, boss = keyed
    issued = create(server, boss, "narrow", models=("b*",), routes=("/v1/*", "GET /admin/v1/whoami"))
    with client_of(server, issued.secret) as narrow:
        assert [card["id"] for card in narrow.get("/v1/models").json()["data"]] == ["bob"]
        assert narrow.get("/v1/models/ada").status_code == 404
        bodies = {"prompt": "hi", "max_tokens": 2}
        assert narrow.post("/v1/completions", json={"model": "bob", **bodies}).status_code == 200
        for name in ("ada", "nobody"):
            refused = narrow.post("/v1/completions", json={"model": name, **bodies})
            assert refused.status_code == 404
            assert "cyd" not in refused.text
        assert narrow.post("/v1/completions", json={"model": "auto", **bodies}).status_code == 200
        assert narrow.post("/tokenize", json={"model": "bob", "content": "hi"}).status_code == 403
        assert narrow.get("/admin/v1/whoami").json()["grant"]["models"] == ["b*"]
        assert narrow.get("/api/tags").status_code == 403


def test_priority_needs_a_key_that_may(keyed: tuple[TinyServer, str]) -> None:
    server, boss = keyed
    plain = create(server, boss, "plain")
    hasty = create(server, boss, "hasty", tiers=("default", "priority"))
    body = {"model": "ada", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
    for issued, tier, status in (
        (plain, "priority", 403),
        (plain, "flex", 200),
        (hasty, "priority", 200),
        (hasty, "flex", 403),
    ):
        with client_of(server, issued.secret) as client:
            answer = client.post("/v1/chat/completions", json={**body, "service_tier": tier})
            assert answer.status_code == status, answer.text


def test_a_reader_keeps_nothing(keyed: tuple[TinyServer, str]) -> None:
    server, boss = keyed
    issued = create(server, boss, "kiosk", role="reader")
    body = {"model": "ada", "input": "hi", "max_output_tokens": 16}
    chat = {"model": "ada", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
    with client_of(server, issued.secret) as kiosk:
        answer = kiosk.post("/v1/responses", json=body)
        assert answer.status_code == 200, answer.text
        assert answer.json()["store"] is False
        for extra in ({"store": True}, {"background": True}):
            assert kiosk.post("/v1/responses", json={**body, **extra}).status_code == 403
        assert kiosk.post("/v1/chat/completions", json=chat).status_code == 200
        assert kiosk.post("/v1/chat/completions", json={**chat, "store": True}).status_code == 403


def test_rates_are_told_and_kept(keyed: tuple[TinyServer, str]) -> None:
    server, boss = keyed
    issued = create(server, boss, "slow", rates=Rates(requests_per_minute=3, tokens_per_minute=100))
    body = {"model": "ada", "prompt": "hi", "max_tokens": 80, "ignore_eos": True}
    with client_of(server, issued.secret) as slow:
        first = slow.post("/v1/completions", json=body)
        assert first.headers["x-ratelimit-limit-requests"] == "3"
        assert first.headers["x-ratelimit-remaining-requests"] == "2"
        assert first.headers["x-ratelimit-reset-requests"].endswith("s")
        time.sleep(0.2)  # what an answer took is known when it is over, which may be after its last byte
        second = slow.get("/v1/models")
        assert first.json()["usage"]["total_tokens"] > 80
        assert int(second.headers["x-ratelimit-remaining-tokens"]) < 80
        slow.get("/v1/models")
        refused = slow.get("/v1/models")
        assert refused.status_code == 429
        assert refused.json()["error"]["code"] == "rate_limit_exceeded"
        assert int(refused.headers["retry-after"]) <= 20
        assert int(refused.headers["retry-after-ms"]) <= 20_000
        assert refused.headers["x-ratelimit-remaining-requests"] == "0"
        assert slow.get("/healthz").status_code == 200
    with client_of(server, boss) as other:
        assert "x-ratelimit-limit-requests" not in other.get("/v1/models").headers


def test_addresses_have_rates_too(start_tiny: StartTiny) -> None:
    server = start_tiny("access.address.requests_per_minute=20")
    with client_of(server) as client:
        found = [client.get("/version").status_code for _ in range(30)]
    assert found.count(200) <= 20
    assert found[-1] == 429


def test_folders_are_followed_within_the_roots_only(tmp_path: Path) -> None:
    require([CHAT, EMBED])
    (tmp_path / "allowed" / "inner").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "allowed" / "link").symlink_to(tmp_path / "other")
    served = Served(tmp_path / "home", [CHAT, EMBED], (f"access.folder_roots={tmp_path / 'allowed'}",))
    try:
        base = served.http.post("/v1/vector_stores", json={"name": "b"}).json()["id"]
        place = f"/v1/vector_stores/{base}/folders"
        for path, status in (
            (tmp_path / "allowed" / "inner", 200),
            (tmp_path / "other", 400),
            (tmp_path / "allowed" / ".." / "other", 400),
            (tmp_path / "allowed" / "link", 400),
            (tmp_path / "home", 400),
            (Path("/etc"), 400),
        ):
            assert served.http.post(place, json={"path": str(path)}).status_code == status, path
    finally:
        served.end()
