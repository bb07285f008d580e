"""The door of the application: who asks is settled here, before any path is looked at.

An ASGI layer that puts the request's `Principal` into the scope, or the error that says why there is none;
what a path does about it is `authorise`'s, which the router calls before every handler. While a request runs
its credential is held: if that ends, the handler sees its client leave, and the client gets a typed error.
"""

from __future__ import annotations

import asyncio
import contextlib

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from appliance.api.errors import PRINCIPAL_KEY, body_for, error_response
from appliance.api.operation import Operation
from appliance.api.sse import data_line, named_event
from appliance.errors import Forbidden, HearthError, NotAuthenticated
from appliance.principal import Principal
from appliance.runtime import Runtime

LEAVING_SECONDS = 0.3  # for a handler whose credential has ended, before it is cancelled
TELLING_SECONDS = 0.2  # for the error to go out to a client that may not read


def authorise(request: Request, operation: Operation) -> None:
    """Raises NotAuthenticated, Forbidden."""
    if operation.access == "public":
        return
    principal = principal_in(request.scope)
    if not principal.has_role(operation.access):
        raise Forbidden(
            f"{operation.method} {operation.path} is for the role {operation.access}; "
            f"{principal.name!r} has the role {principal.role}"
        )
    if not principal.may_call(request.method, request.scope["path"]):
        raise Forbidden(f"{principal.name!r} may not call {request.method} {request.scope['path']}")


def principal_in(scope: Scope) -> Principal:
    """Raises NotAuthenticated, also where nobody has settled it: without a principal nothing is answered."""
    found = scope.get(PRINCIPAL_KEY)
    if isinstance(found, Principal):
        return found
    raise found if isinstance(found, NotAuthenticated) else NotAuthenticated("nobody has said who asks")


class Gate:
    """Wraps the application; belongs inside whatever gives requests their ids."""

    def __init__(self, app: ASGIApp, runtime: Runtime) -> None:
        self._app, self._access = app, runtime.access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            principal = self._access.authenticate(_secret(scope))
        except NotAuthenticated as error:
            scope[PRINCIPAL_KEY] = error
            await self._app(scope, receive, send)
            return
        scope[PRINCIPAL_KEY] = principal
        if not principal.credential:
            await self._app(scope, receive, send)
            return
        held = _Held(receive, send, scope["path"])
        with self._access.running.hold(principal.credential, held.end, self._access.expires_at(principal)):
            await held.run(self._app, scope)


def _secret(scope: Scope) -> str | None:
    """What the client shows: `Authorization: Bearer`, or `x-api-key` as Anthropic's clients send it.

    Raises NotAuthenticated for two that differ, or a header given twice: which of them counts is no guess.
    """
    shown = set()
    for name, value in scope["headers"]:
        if name == b"authorization":
            scheme, _, token = value.decode("latin-1").partition(" ")
            if scheme.lower() != "bearer":
                raise NotAuthenticated("the only Authorization that this server knows is `Bearer KEY`")
            shown.add(token.strip())
        elif name == b"x-api-key":
            shown.add(value.decode("latin-1").strip())
    if len(shown) > 1:
        raise NotAuthenticated("the request shows several different keys; send one")
    return shown.pop() if shown else None


class _Held:
    """A request that ends when its credential does."""

    def __init__(self, receive: Receive, send: Send, path: str) -> None:
        self._receive, self._send, self._path = receive, send, path
        self._ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._status = 0
        self._media_type = ""
        self._is_complete = False

    def end(self, reason: str) -> None:
        if not self._ended.done():
            self._ended.set_result(reason)

    async def run(self, app: ASGIApp, scope: Scope) -> None:
        answering = asyncio.ensure_future(app(scope, self.receive, self.send))
        try:
            await asyncio.wait((answering, self._ended), return_when=asyncio.FIRST_COMPLETED)
            if not self._ended.done():
                answering.result()
                return
            await asyncio.wait((answering,), timeout=LEAVING_SECONDS)
        finally:
            if not answering.done():
                answering.cancel()
                await asyncio.gather(answering, return_exceptions=True)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._tell(self._ended.result()), TELLING_SECONDS)

    async def receive(self) -> Message:
        """The client's next message; it has left when the credential has ended."""
        if self._ended.done():
            return {"type": "http.disconnect"}
        coming = asyncio.ensure_future(self._receive())
        try:
            await asyncio.wait((coming, self._ended), return_when=asyncio.FIRST_COMPLETED)
            return {"type": "http.disconnect"} if self._ended.done() else coming.result()
        finally:
            coming.cancel()

    async def send(self, message: Message) -> None:
        if self._ended.done():
            return
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._media_type = _media_type(message)
        else:
            self._is_complete = not message.get("more_body", False)
        await self._send(message)

    async def _tell(self, reason: str) -> None:
        error = NotAuthenticated(f"{reason}; the request was ended", code="credential_ended")
        if self._is_complete:
            return
        if not self._status:
            await _whole(error_response(error, self._path), self._send)
            return
        last = _last_event(self._media_type, self._path, error)
        await self._send({"type": "http.response.body", "body": last, "more_body": False})


async def _whole(response: Response, send: Send) -> None:
    start = {"status": response.status_code, "headers": response.raw_headers}
    await send({"type": "http.response.start", **start})
    await send({"type": "http.response.body", "body": bytes(response.body)})


def _media_type(message: Message) -> str:
    for name, value in message["headers"]:
        if name == b"content-type":
            return str(value, "latin-1").partition(";")[0].strip()
    return ""


def _last_event(media_type: str, path: str, error: HearthError) -> bytes:
    """The end of a stream as its surface's clients read it; nothing for what is no stream of events."""
    body = msgspec.json.encode(body_for(path, error))
    if media_type == "text/event-stream":
        if path.startswith(("/v1/messages", "/v1/responses")):
            return named_event("error", body)
        return data_line(body)
    return body + b"\n" if media_type == "application/x-ndjson" else b""
