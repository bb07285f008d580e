"""Whose Host and Origin are answered: a server that allows one name and one page more than its own."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from appliance.api.openapi import DOCUMENT_OPERATION
from appliance.api.routes import OPERATIONS
from tests.serving import Served

PAGE = "https://chat.example.org"
EVIL_HOSTS = (
    "evil.example",
    "evil.example:8080",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "localhost@evil.example",
    "evil.example#localhost",
    "evil.example/localhost",
    "localhost, evil.example",
    "169.254.169.254",
    "10.0.0.1",
    "[::ffff:10.0.0.1]",
    "0x7f000001.nip.io",
    "hearth.example.org.evil.example",
    "localhost:99999",
    "localhost:x",
    "xn--lcalhost-c1a",
    "\xe4.example",
    " ",
)
EVIL_ORIGINS = (
    "https://evil.example",
    "http://localhost.evil.example",
    "https://chat.example.org.evil.example",
    "https://chat.example.org:444",
    "http://chat.example.org",
    "HTTPS://CHAT.EXAMPLE.ORG",
    "https://chat.example.org/",
    "null",
    "file://",
    "chrome-extension://abc",
)


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """No models: nothing here gets as far as one."""
    served = Served(
        tmp_path_factory.mktemp("named"),
        ["smollm2-135m-instruct"],
        ("access.hosts=hearth.example.org,*.lan", f"access.origins={PAGE}", "knowledge.enabled=false"),
    )
    yield served
    served.stop()


def ask(served: Served, host: str | None, method: str = "GET", path: str = "/version", *lines: str) -> bytes:
    """The raw answer: no client library changes the Host."""
    where = urlsplit(served.url)
    head = [f"{method} {path} HTTP/1.1", *([f"Host: {host}"] if host is not None else []), *lines]
    with socket.create_connection((where.hostname or "", where.port or 0), timeout=10) as connection:
        request = "\r\n".join([*head, "Connection: close", "Content-Length: 0", "", ""])
        connection.sendall(request.encode("latin-1"))
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    return answer


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST", "localhost:1", "127.0.0.1", "127.1.2.3", "[::1]:80", "localhost."]
)
def test_this_machines_own_names_are_answered(named: Served, host: str) -> None:
    assert status_of(ask(named, host)) == 200


@pytest.mark.parametrize("host", ["hearth.example.org", "Hearth.Example.Org:443", "printer.lan"])
def test_names_of_the_settings_are_answered(named: Served, host: str) -> None:
    assert status_of(ask(named, host)) == 200


@pytest.mark.parametrize("host", EVIL_HOSTS)
def test_a_foreign_name_is_refused(named: Served, host: str) -> None:
    answer = ask(named, host)
    assert status_of(answer) in (400, 403), answer
    assert b"version" not in answer.partition(b"\r\n\r\n")[2].replace(b"HTTP", b"")


def test_no_name_and_two_names_are_refused(named: Served) -> None:
    assert status_of(ask(named, None)) == 400
    assert status_of(ask(named, "localhost", "GET", "/version", "Host: evil.example")) == 400


def test_no_route_answers_a_foreign_host_or_page(named: Served) -> None:
    """Every route, every method of it, whatever else is right."""
    leaks = []
    for operation in (*OPERATIONS, DOCUMENT_OPERATION):
        path = operation.path.replace("{", "").replace("}", "")
        for host, lines in (
            ("evil.example", ()),
            ("localhost", ("Origin: https://evil.example",)),
            ("localhost", ("Origin: null",)),
        ):
            answer = ask(named, host, operation.method, path, *lines)
            if status_of(answer) != 403 or b"access-control" in answer.lower():
                leaks.append((operation.method, path, host, answer[:80]))
    assert leaks == []


@pytest.mark.parametrize("origin", EVIL_ORIGINS)
def test_a_foreign_page_is_refused(named: Served, origin: str) -> None:
    answer = ask(named, "localhost", "POST", "/v1/chat/completions", f"Origin: {origin}")
    assert status_of(answer) == 403
    assert b"access-control" not in answer.lower()
    preflight = ask(
        named,
        "localhost",
        "OPTIONS",
        "/v1/chat/completions",
        f"Origin: {origin}",
        "Access-Control-Request-Method: POST",
    )
    assert status_of(preflight) == 403
    assert b"access-control-allow" not in preflight.lower()


def test_the_allowed_page_may_read_answers(named: Served) -> None:
    answer = named.http.get("/version", headers={"origin": PAGE})
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert "x-request-id" in answer.headers["access-control-expose-headers"]
    assert "Origin" in answer.headers["vary"]
    assert "access-control-allow-credentials" not in answer.headers
    refused = named.http.get("/nowhere", headers={"origin": PAGE})
    assert refused.status_code == 404
    assert refused.headers["access-control-allow-origin"] == PAGE


def test_the_allowed_page_may_ask_first(named: Served) -> None:
    wanted = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,x-a"}
    answer = named.http.request("OPTIONS", "/v1/chat/completions", headers={"origin": PAGE, **wanted})
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert answer.headers["access-control-allow-headers"] == "authorization,x-a"
    odd = {**wanted, "access-control-request-headers": "a b; c"}
    odder = named.http.request("OPTIONS", "/v1/models", headers={"origin": PAGE, **odd})
    assert "access-control-allow-headers" not in odder.headers


def test_the_servers_own_page_needs_no_permission(named: Served) -> None:
    answer = named.http.get("/version", headers={"origin": named.url})
    assert answer.status_code == 200
    assert "access-control-allow-origin" not in answer.headers


def test_without_settings_no_page_is_told_anything(server: Served) -> None:
    answer = httpx.get(f"{server.url}/version", headers={"origin": PAGE}, trust_env=False)
    assert answer.status_code == 403
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_a_changed_list_is_in_force_at_once(tmp_path: Path) -> None:
    served = Served(tmp_path / "home", ["smollm2-135m-instruct"], ("knowledge.enabled=false",))
    try:
        assert status_of(ask(served, "hearth.lan")) == 403
        (served.home / "hearth.toml").write_text('[access]\nhosts = ["hearth.lan"]\n')
        served.wait_until(lambda: status_of(ask(served, "hearth.lan")) == 200, 10)
    finally:
        served.end()
