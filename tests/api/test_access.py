"""Who may call what: keys over a real server, from the first key on."""

from __future__ import annotations

import time
from typing import Any

import httpx
import psutil
import pytest

from appliance import admin
from appliance.api.openapi import DOCUMENT_OPERATION
from appliance.api.operation import Operation
from appliance.api.routes import OPERATIONS
from appliance.client import Client, RemoteError
from appliance.principal import ROLES, Grant
from tests.serving import parse_events
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
