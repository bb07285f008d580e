"""A request under a credential that may end while it runs: the handler then sees its client leave, and the
client gets a typed error, as its surface writes errors in whatever is under way.
"""

from __future__ import annotations

import asyncio
import contextlib

import msgspec
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from appliance.api.errors import body_for, error_response
from appliance.api.sse import data_line, named_event
from appliance.errors import HearthError, NotAuthenticated

LEAVING_SECONDS = 0.3  # for a handler whose credential has ended, before it is cancelled
TELLING_SECONDS = 0.2  # for the error to go out to a client that may not read


class Held:
    """`end` may be called at any time; `run` returns within LEAVING_SECONDS + TELLING_SECONDS after it."""

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
