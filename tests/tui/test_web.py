"""The UI in a browser: who may come in, and that the page needs nothing from elsewhere. Real processes."""

from __future__ import annotations

import asyncio
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import httpx
import pytest

from appliance import paths
from tests.commands import run_hearth
from tests.serving import Served, own_environment
from tests.tiny_server import StartTiny
from tests.tui.operating import operated


class Web:
    """A running `hearth tui --web` on the server at `url`."""

    def __init__(self, url: str, home: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"127.0.0.1:{port}"
        self.process = subprocess.Popen(
            [*paths.self_command(), "tui", "--web", "--web-port", str(port), "--url", url],
            stdout=subprocess.PIPE,
            env=own_environment(home) | {"LANG": "C.UTF-8"},
        )
        assert self.process.stdout is not None
        assert self.address.encode() in self.process.stdout.readline()
        self.http = httpx.Client(base_url=f"http://{self.address}", timeout=30, trust_env=False)

    def end(self) -> None:
        self.http.close()
        self.process.terminate()
        assert self.process.wait(20) == 0
        assert self.process.stdout is not None
        self.process.stdout.close()

    async def first_screen(self, *words: str, cookies: httpx.Cookies) -> str:
        """What the terminal in the page is sent until it holds all of `words`."""
        seen = ""
        async with (
            aiohttp.ClientSession(cookies=dict(cookies)) as session,
            session.ws_connect(f"ws://{self.address}/ws?width=100&height=30") as socket,
        ):
            ends_at = time.monotonic() + 30
            while not all(word in seen for word in words):
                assert time.monotonic() < ends_at, seen[-400:]
                message = await socket.receive(30)
                if message.type is aiohttp.WSMsgType.BINARY:
                    seen += re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", message.data.decode("utf-8", "replace"))
        return seen


@pytest.fixture(scope="module")
def web(server: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    started = Web(server.url, tmp_path_factory.mktemp("web"))
    yield started
    started.end()


def test_only_this_very_address_is_answered(web: Web) -> None:
    assert web.http.get("/").status_code == 200
    assert web.http.get("/", headers={"host": "evil.test"}).status_code == 403
    assert web.http.get("/ws", headers={"origin": "http://evil.test"}).status_code == 403


def test_the_page_loads_nothing_from_elsewhere(web: Web) -> None:
    page = web.http.get("/")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert re.findall(r'(?:src|href)="?(?:https?:)?//[^"]*', page.text) == []
    own = re.findall(r'(?:src|href)="(/static/[^"]*)"', page.text)
    assert len(own) == 2
    assert [path for path in own if web.http.get(path).status_code != 200] == []


@operated
async def test_a_server_without_keys_lets_this_machine_in(web: Web) -> None:
    page = await asyncio.to_thread(web.http.get, "/")
    seen = await web.first_screen("Hearth", "ready", cookies=page.cookies)
    assert "Overview" in seen


@operated
async def test_a_server_with_keys_wants_one(start_tiny: StartTiny, tmp_path: Path) -> None:
    tiny = start_tiny(room_for=1)
    made = run_hearth(
        "keys", "create", "boss", "--role", "admin", home=tmp_path, url=tiny.url, share_models=False
    )
    key = made.stdout.split()[0] if made.returncode == 0 else ""
    assert key, made.stderr
    web = Web(tiny.url, tmp_path / "web")
    try:
        assert web.http.get("/").status_code == 401
        assert web.http.get("/ws").status_code == 401
        wrong = web.http.post("/login", data={"key": "hearth-wrong"})
        assert wrong.status_code == 403
        assert "set-cookie" not in wrong.headers
        right = web.http.post("/login", data={"key": key})
        assert right.status_code == 303
        assert "HttpOnly" in right.headers["set-cookie"]
        assert "SameSite=Strict" in right.headers["set-cookie"]
        await web.first_screen("Hearth", "ready", cookies=right.cookies)
    finally:
        web.end()
