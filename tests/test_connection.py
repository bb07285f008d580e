"""One client's connection: what is too much, too late or no HTTP is refused in words; the rest goes on."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from tests.conftest import require
from tests.serving import CHAT, Served

SETTINGS = (
    "knowledge.enabled=false",
    "limits.header_bytes=4096",
    "limits.header_count=20",
    "limits.receive_seconds=1",
    "limits.stall_seconds=1",
    "limits.idle_seconds=2",
    "limits.address_connections=8",
)


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    require([CHAT])
    served = Served(tmp_path_factory.mktemp("limited") / "home", [CHAT], SETTINGS)
    yield served
    served.end()


def connect(served: Served) -> socket.socket:
    where = urlsplit(served.url)
    return socket.create_connection((where.hostname or "", where.port or 0), timeout=10)


def answer_to(served: Served, request: bytes) -> tuple[int, str]:
    """The status and the error's code."""
    with connect(served) as connection:
        connection.sendall(request)
        raw = b""
        try:
            while piece := connection.recv(65536):
                raw += piece
        except ConnectionResetError:
            pass
    head, _, body = raw.partition(b"\r\n\r\n")
    code = json.loads(body).get("error", {}).get("code", "") if body.startswith(b"{") else ""
    return int(head.split()[1]) if head else 0, code


HEAD = b"GET /version HTTP/1.1\r\nHost: localhost\r\n"
POST = HEAD.replace(b"GET /version", b"POST /v1/completions")


def status_of(connection: socket.socket) -> int:
    """Of the next answer, which is read whole."""
    raw = b""
    while b"\r\n\r\n" not in raw:
        if not (piece := connection.recv(65536)):
            return 0
        raw += piece
    head, _, body = raw.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].split()[0])
    while len(body) < length:
        body += connection.recv(65536)
    return int(head.split()[1])


@pytest.mark.parametrize(
    ("request_bytes", "expected"),
    [
        (HEAD + b"X-Long: " + b"a" * 5000 + b"\r\n\r\n", (431, "headers_too_large")),
        (HEAD + b"".join(b"X-%d: a\r\n" % n for n in range(25)) + b"\r\n", (431, "headers_too_large")),
        (b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", (431, "headers_too_large")),
        (HEAD + b"X-Endless: " + b"a" * 400_000, (431, "headers_too_large")),
        (b"no http at all\r\n\r\n", (400, "invalid_http")),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01", (400, "invalid_http")),
        (HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", (400, "invalid_http")),
        (HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcde", (400, "invalid_http")),
        (HEAD + b"X-Bad : a\r\n\r\n", (400, "invalid_http")),
        (HEAD + b"X-Slow: ", (408, "request_timeout")),
        (b"", (408, "request_timeout")),
        (POST + b"Content-Length: 90\r\n\r\n{", (408, "request_timeout")),
    ],
)
def test_what_does_not_fit_is_refused_in_words(
    limited: Served, request_bytes: bytes, expected: tuple[int, str]
) -> None:
    assert answer_to(limited, request_bytes) == expected


def test_an_idle_connection_is_closed_and_a_used_one_stays(limited: Served) -> None:
    with connect(limited) as connection:
        for _ in range(3):
            connection.sendall(HEAD + b"\r\n")
            assert status_of(connection) == 200
            time.sleep(0.5)
        began = time.monotonic()
        assert connection.recv(1) == b""
        assert time.monotonic() - began < 8


def test_one_address_has_so_many_connections_and_no_more(limited: Served) -> None:
    opened = [connect(limited) for _ in range(12)]
    try:
        alive = 0
        for connection in opened:
            try:
                connection.sendall(HEAD + b"\r\n")
                alive += status_of(connection) == 200
            except OSError:
                continue
        assert 1 <= alive <= 8
    finally:
        for connection in opened:
            connection.close()
    limited.wait_until(lambda: answer_to(limited, HEAD + b"Connection: close\r\n\r\n")[0] == 200, 10)


def test_a_body_that_keeps_coming_is_waited_for(limited: Served) -> None:
    """2 s for a body, at twice the least rate: slow is no crime."""
    body = json.dumps({"model": CHAT, "prompt": "hi" + " " * 3000, "max_tokens": 1}).encode()
    with connect(limited) as connection:
        connection.sendall(POST + b"Content-Length: %d\r\n\r\n" % len(body))
        for start in range(0, len(body), 400):
            connection.sendall(body[start : start + 400])
            time.sleep(0.25)
        assert connection.recv(12) == b"HTTP/1.1 200"


def test_too_many_connections_are_told_when_to_come_back(tmp_path_factory: pytest.TempPathFactory) -> None:
    home = tmp_path_factory.mktemp("crowded") / "home"
    served = Served(home, [CHAT], ("knowledge.enabled=false", "limits.connections=2"))
    try:
        served.http.close()
        with connect(served), connect(served), connect(served) as late:
            time.sleep(0.2)
            late.sendall(HEAD + b"\r\n")
            raw = b""
            while piece := late.recv(65536):
                raw += piece
        assert raw.startswith(b"HTTP/1.1 503")
        assert b"too_many_connections" in raw
        assert b"retry-after: 1" in raw
    finally:
        served.end()
