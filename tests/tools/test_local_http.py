"""Only what is listed is asked, and what is asked cannot lead elsewhere. The services are real sockets."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from appliance.config.tools import HttpAddress
from appliance.errors import ConfigError
from appliance.security.egress import EgressGuard
from appliance.tools.local_http import LocalHttp
from appliance.tools.tool import ToolFailure

MOST = 1000


class Service(BaseHTTPRequestHandler):
    asked: list[str]

    def do_GET(self) -> None:
        type(self).asked.append(f"{self.command} {self.path}")
        answers: dict[str, tuple[int, str, bytes]] = {
            "/api/ok": (200, "application/json", b'{"a": 1}'),
            "/api/long": (200, "text/plain", b"x" * (MOST * 5000)),
            "/api/image": (200, "image/png", b"\x89PNG"),
            "/api/odd": (200, "text/plain; charset=klingon", "\u00e9".encode()),
            "/api/wrong": (500, "text/plain", b"it broke"),
            "/api/away": (302, "text/plain", b""),
        }
        status, kind, body = answers.get(self.path, (200, "text/plain", b"here"))
        length = int(self.headers.get("content-length") or 0)
        if length:
            body = self.rfile.read(length)
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        if status == 302:
            self.send_header("location", "/secret")
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def service() -> Iterator[tuple[int, list[str]]]:
    asked: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Asked", (Service,), {"asked": asked}))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server.server_address[1], asked
    server.shutdown()
    server.server_close()
    thread.join()


def call(allowed: list[HttpAddress], *, offline: bool = False, **arguments: Any) -> str:
    async def run() -> str:
        tool = LocalHttp(allowed, EgressGuard(is_offline=offline).check, most_bytes=MOST)
        try:
            return await tool.call(arguments)
        finally:
            await tool.close()

    return asyncio.run(run())


def test_what_is_listed_is_answered(service: tuple[int, list[str]]) -> None:
    port, _ = service
    allowed = [HttpAddress(url=f"http://localhost:{port}/api", methods=("GET", "POST"))]
    assert call(allowed, url=f"http://127.0.0.1:{port}/api/ok", offline=True) == '{"a": 1}'
    assert call(allowed, url=f"http://localhost:{port}/api", offline=True) == "here"
    assert call(allowed, url=f"http://localhost:{port}/api/odd") == "\u00e9"
    assert call(allowed, url=f"http://localhost:{port}/api/in", method="POST", body="said") == "said"
    assert MOST < len(call(allowed, url=f"http://127.0.0.1:{port}/api/long")) < MOST * 5000


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/apis",
        "/secret",
        "/api/../secret",
        "/api/%2e%2e/secret",
        "/api/%252e%252e/secret",
        "/api/..%2fsecret",
        "/api\\..\\secret",
        "/api/a#b",
    ],
)
def test_what_is_not_listed_is_never_asked(service: tuple[int, list[str]], path: str) -> None:
    port, asked = service
    with pytest.raises(ToolFailure):
        call([HttpAddress(url=f"http://127.0.0.1:{port}/api")], url=f"http://127.0.0.1:{port}{path}")
    assert asked == []


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}@example.test/api",
        "http://user:word@127.0.0.1:{port}/api",
        "https://127.0.0.1:{port}/api",
        "http://127.0.0.2:{port}/api",
        "http://2130706433:{port}/api",
        "http://127.1:{port}/api",
        "http://[::ffff:127.0.0.1]:{port}/api",
        "file:///etc/passwd",
        "//127.0.0.1:{port}/api",
        "http://127.0.0.1:99999/api",
        "http:///api",
        "x" * 3000,
    ],
)
def test_other_spellings_of_an_address_are_other_addresses(service: tuple[int, list[str]], url: str) -> None:
    port, asked = service
    with pytest.raises(ToolFailure):
        call([HttpAddress(url=f"http://127.0.0.1:{port}/api")], url=url.format(port=port))
    assert asked == []


@pytest.mark.parametrize("path", ["/api/away", "/api/image", "/api/wrong"])
def test_redirects_pictures_and_errors_are_failures(service: tuple[int, list[str]], path: str) -> None:
    port, asked = service
    with pytest.raises(ToolFailure):
        call([HttpAddress(url=f"http://127.0.0.1:{port}/api")], url=f"http://127.0.0.1:{port}{path}")
    assert asked == [f"GET {path}"]


def test_methods_are_listed_too(service: tuple[int, list[str]]) -> None:
    port, asked = service
    allowed = [HttpAddress(url=f"http://127.0.0.1:{port}/api")]
    for method in ("POST", "DELETE", "CONNECT", "get /secret HTTP/1.1\r\n"):
        with pytest.raises(ToolFailure):
            call(allowed, url=f"http://127.0.0.1:{port}/api/ok", method=method)
    assert asked == []


def test_offline_nothing_leaves_the_machine_though_it_is_listed() -> None:
    with pytest.raises(ToolFailure, match="offline"):
        call([HttpAddress(url="http://192.0.2.1/")], offline=True, url="http://192.0.2.1/x")


@pytest.mark.parametrize("url", ["http://example.test/", "http://printer/"])
def test_a_name_is_no_address(url: str) -> None:
    with pytest.raises(ConfigError, match="name"):
        LocalHttp([HttpAddress(url=url)], EgressGuard(is_offline=True).check, most_bytes=MOST)
