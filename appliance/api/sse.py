"""Server-sent events, and what happens when the client leaves in the middle.

A stream's producer is an async iterator of ready-made `data:` lines. It is closed the moment the client
disconnects, which is how a left client frees its slot.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from typing import Any, NamedTuple, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from appliance.errors import Cancelled

Result = TypeVar("Result")

DONE = b"data: [DONE]\n\n"


def data_line(payload: bytes) -> bytes:
    return b"data: " + payload + b"\n\n"


def named_event(name: str, payload: bytes) -> bytes:
    """An event with its name in front, as Responses and Anthropic's clients read them."""
    return b"event: " + name.encode("ascii") + b"\ndata: " + payload + b"\n\n"


class Heartbeat(NamedTuple):
    """What a stream says every so many seconds until its first line, so that nobody takes it for dead."""

    seconds: float
    say: Callable[[], bytes]


class EventStream(Response):
    """A 200 whose body is `lines`, sent as they come."""

    media_type = "text/event-stream"

    def __init__(
        self,
        lines: AsyncGenerator[bytes],
        headers: Mapping[str, str],
        heartbeat: Heartbeat | None = None,
    ) -> None:
        self._heartbeat = heartbeat
        self.status_code = 200
        self.background = None
        self._lines = lines
        self.body = b""
        self.init_headers({"cache-control": "no-store", "x-accel-buffering": "no", **headers})
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        sending = asyncio.ensure_future(self._send_lines(send))
        leaving = asyncio.ensure_future(_disconnect(receive))
        try:
            await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _end(leaving)
            await _end(sending)
            await self._lines.aclose()
        if not sending.cancelled() and (error := sending.exception()) is not None:
            raise error

    async def _send_lines(self, send: Send) -> None:
        if self._heartbeat is not None:
            line = await self._first_line(send, self._heartbeat)
            await send({"type": "http.response.body", "body": line, "more_body": True})
        async for line in self._lines:
            await send({"type": "http.response.body", "body": line, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _first_line(self, send: Send, heartbeat: Heartbeat) -> bytes:
        first = asyncio.ensure_future(anext(self._lines, b""))
        try:
            while not (await asyncio.wait((first,), timeout=heartbeat.seconds))[0]:
                await send({"type": "http.response.body", "body": heartbeat.say(), "more_body": True})
            return first.result()
        finally:
            await _end(first)


async def unless_client_leaves(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """The result of `work`, which is cancelled when the client leaves first; then raises Cancelled."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_disconnect(request.receive))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise Cancelled("the client left")
        return working.result()
    finally:
        await _end(leaving)
        await _end(working)


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _end(task: asyncio.Future[Any]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, Exception):
        await task
