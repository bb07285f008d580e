"""Whether a request is for this server at all: its Host and its Origin, before anything else is looked at.

And what browsers ask for pages that the settings allow (CORS, https://fetch.spec.whatwg.org/#http-cors-protocol):
nobody else hears of it.
"""

from __future__ import annotations

import re

from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from appliance.api.errors import error_response
from appliance.errors import HearthError, InvalidRequest
from appliance.runtime import Runtime

METHODS = "GET, POST, PUT, DELETE"
EXPOSED = (
    "x-request-id, retry-after, retry-after-ms, x-hearth-route, x-hearth-model, x-hearth-reason, "
    "x-hearth-attempts, x-hearth-warning, x-ratelimit-limit-requests, x-ratelimit-remaining-requests, "
    "x-ratelimit-reset-requests, x-ratelimit-limit-tokens, x-ratelimit-remaining-tokens, "
    "x-ratelimit-reset-tokens"
)
PREFLIGHT_SECONDS = 600
HEADER_NAMES = re.compile(r"\A[A-Za-z0-9-]{1,64}(\s*,\s*[A-Za-z0-9-]{1,64}){0,63}\Z")


class Addressed:
    """Wraps the application; outside of whoever asks for credentials."""

    def __init__(self, app: ASGIApp, runtime: Runtime) -> None:
        self._app, self._runtime = app, runtime

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            origin = self._check(scope)
        except HearthError as error:
            await error_response(error, scope["path"])(scope, receive, send)
            return
        if not origin:
            await self._app(scope, receive, send)
            return
        if scope["method"] == "OPTIONS":
            await _preflight(scope, origin)(scope, receive, send)
            return

        async def shared_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=list(message["headers"]))
                headers["access-control-allow-origin"] = origin
                headers["access-control-expose-headers"] = EXPOSED
                headers.add_vary_header("Origin")
                message["headers"] = headers.raw
            await send(message)

        await self._app(scope, receive, shared_send)

    def _check(self, scope: Scope) -> str:
        """The foreign page that may ask, or nothing. Raises InvalidRequest, Misdirected."""
        names = self._runtime.access.names
        host = _only(scope, b"host")
        if not host:
            raise InvalidRequest("the request needs a Host header", param="host", code="invalid_host")
        server = scope.get("server")
        names.check_host(host, server[0] if server else None)
        origin = _only(scope, b"origin")
        return origin if origin and names.check_origin(origin, scope["scheme"], host) else ""


def _only(scope: Scope, name: bytes) -> str:
    """The header's one value, empty when it is not there. Raises InvalidRequest for several."""
    values = [value for key, value in scope["headers"] if key == name]
    if len(values) > 1:
        text = name.decode("ascii")
        raise InvalidRequest(f"the request has several {text} headers", param=text, code=f"invalid_{text}")
    return str(values[0], "latin-1") if values else ""


def _preflight(scope: Scope, origin: str) -> Response:
    """What a browser asks before it sends: which methods and headers the page may use."""
    headers = {
        "access-control-allow-origin": origin,
        "access-control-allow-methods": METHODS,
        "access-control-max-age": str(PREFLIGHT_SECONDS),
        "vary": "Origin, Access-Control-Request-Headers",
    }
    wanted = str(dict(scope["headers"]).get(b"access-control-request-headers", b""), "latin-1")
    if HEADER_NAMES.match(wanted):
        headers["access-control-allow-headers"] = wanted
    return Response(status_code=204, headers=headers)
