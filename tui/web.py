"""The same UI in a browser on this machine: a session for whoever has a key that the server takes.

textual-serve brings the page's terminal and its protocol; this adds who may come in. Each session is a
process of `hearth tui` of its own, with the visitor's key and no other. Only loopback is listened on, only
requests for this very address are answered, and nothing is loaded from anywhere else.
"""

from __future__ import annotations

import asyncio
import hmac
import os
import secrets
import shlex
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp_jinja2
from aiohttp import web
from textual_serve.app_service import AppService
from textual_serve.server import Server

from appliance.client import Client
from appliance.errors import HearthError, SetupError
from tui.language import current, say

COOKIE = "hearth-session"
SESSIONS = 32  # the longest unused one leaves for a further one
CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; font-src 'self'; "
    "img-src 'self' data:; connect-src 'self' ws:; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'"
)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Gate(Server):
    """`program`: the words that start the UI on the server at `url`, without a key."""

    def __init__(self, program: list[str], url: str | None, authority: str | None, port: int) -> None:
        super().__init__(
            shlex.join(program),
            host="127.0.0.1",
            port=port,
            title="Hearth",
            templates_path=Path(__file__).parent / "pages",
        )
        self._url = url
        self._authority = authority
        self._sessions: OrderedDict[str, str] = OrderedDict()  # token → key; empty: the server wants none

    def initialize_logging(self) -> None:
        """The command line has done that."""

    async def _make_app(self) -> web.Application:
        app = await super()._make_app()
        app.middlewares.append(self._guard)
        app.add_routes([web.post("/login", self.handle_login)])
        return app

    async def on_startup(self, app: web.Application) -> None:
        print(say("web.listening", url=self.public_url), flush=True)

    # Who may come in

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Another name for this address, or another page's script, is somebody else's trick."""
        origin = request.headers.get("Origin")
        if request.host != f"{self.host}:{self.port}" or (origin and origin != self.public_url):
            raise web.HTTPForbidden(text=say("web.elsewhere", url=self.public_url))
        is_open = request.path == "/login" or request.path.startswith("/static/")
        if not is_open and self._key_of(request) is None and not await self._enter_without_key(request):
            return self._ask_key(request)
        response = await handler(request)
        if not response.prepared:
            response.headers["Content-Security-Policy"] = CONTENT_POLICY
            response.headers["Referrer-Policy"] = "no-referrer"
            response.headers["X-Content-Type-Options"] = "nosniff"
            response.headers["Cache-Control"] = "no-store"
            if "new-session" in request:
                self._set_cookie(response, request["new-session"])
        return response

    async def handle_login(self, request: web.Request) -> web.StreamResponse:
        key = str((await request.post()).get("key", "")).strip()
        if (wrong := await asyncio.to_thread(self._refusal, key)) is not None:
            return self._ask_key(request, wrong)
        response = web.HTTPSeeOther("/")
        self._set_cookie(response, self._begin(key))
        return response

    def _key_of(self, request: web.Request) -> str | None:
        """The session's key; None without a session."""
        given = request.cookies.get(COOKIE, "") or request.get("new-session", "")
        for token, key in self._sessions.items():
            if hmac.compare_digest(token, given):
                self._sessions.move_to_end(token)
                return key
        return None

    async def _enter_without_key(self, request: web.Request) -> bool:
        """A server that wants no key of this machine gets none."""
        if await asyncio.to_thread(self._refusal, "") is not None:
            return False
        request["new-session"] = self._begin("")
        return True

    def _refusal(self, key: str) -> str | None:
        """Why the server does not take the key; None when it does."""
        try:
            with Client(self._url, key or None, authority=self._authority) as client:
                client.status()
        except HearthError as error:
            return error.message
        return None

    def _begin(self, key: str) -> str:
        token = secrets.token_urlsafe(32)
        self._sessions[token] = key
        while len(self._sessions) > SESSIONS:
            self._sessions.popitem(last=False)
        return token

    @staticmethod
    def _set_cookie(response: web.StreamResponse, token: str) -> None:
        response.set_cookie(COOKIE, token, httponly=True, samesite="Strict")

    def _ask_key(self, request: web.Request, wrong: str = "") -> web.StreamResponse:
        words = {
            "title": say("key.title"),
            "hint": say("web.key_hint"),
            "enter": say("web.enter"),
            "wrong": wrong,
        }
        return aiohttp_jinja2.render_template(
            "login.html", request, {**words, "language": current()}, status=401 if not wrong else 403
        )

    # A session

    @aiohttp_jinja2.template("app_index.html")
    async def handle_index(self, request: web.Request) -> dict[str, Any]:
        return {
            "language": current(),
            "ended": say("web.ended"),
            "again": say("web.again"),
            "font_size": 16,
            "app_websocket_url": f"ws://{self.host}:{self.port}/ws",
            "config": {"static": {"url": "/static/"}},
        }

    async def handle_websocket(self, request: web.Request) -> web.WebSocketResponse:
        websocket = web.WebSocketResponse(heartbeat=15)
        await websocket.prepare(request)

        async def close() -> None:
            await websocket.close()

        service = _Session(
            self.command,
            write_bytes=websocket.send_bytes,
            write_str=websocket.send_str,
            close=close,
            download_manager=self.download_manager,
        )
        service.key = self._key_of(request) or ""
        try:
            await service.start(_cells(request, "width", 80), _cells(request, "height", 24))
            await self._process_messages(websocket, service)
        finally:
            await service.stop()
        return websocket


class _Session(AppService):
    """A process of the UI; `key` in its environment, where no other user of the machine reads it."""

    key = ""

    def _build_environment(self, width: int = 80, height: int = 24) -> dict[str, str]:
        environment: dict[str, str] = super()._build_environment(width, height)
        environment.pop("HEARTH_API_KEY", None)
        environment["COLORTERM"] = "truecolor"
        environment["PYTHONUTF8"] = "1"
        return environment | ({"HEARTH_API_KEY": self.key} if self.key else {})


def _cells(request: web.Request, name: str, otherwise: int) -> int:
    text = request.query.get(name, "")
    return min(1000, max(1, int(text))) if text.isdecimal() else otherwise


def serve(program: list[str], *, url: str | None, authority: str | None, port: int) -> None:
    """Until Ctrl-C. Raises SetupError for a taken port. The key of whoever starts it lets nobody in."""
    os.environ.pop("HEARTH_API_KEY", None)
    try:
        Gate(program, url, authority, port).serve()
    except OSError as error:
        raise SetupError(
            f"cannot listen on 127.0.0.1:{port}: {error.strerror}; choose another --web-port"
        ) from error
