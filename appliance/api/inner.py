"""A request that this server makes of itself: the same application, the same checks, no socket.

What a batch's line is run with. `CLASS_KEY` in the scope says that it waits behind everybody else.
"""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

import msgspec
from starlette.types import ASGIApp, Message

from appliance.api.errors import PRINCIPAL_KEY
from appliance.principal import Principal

CLASS_KEY = "hearth.scheduling_class"


class InnerAnswer(NamedTuple):
    """`body` is decoded JSON; `retry_after` in seconds, where the answer says so."""

    status: int
    body: Any
    retry_after: float | None


async def ask(
    app: ASGIApp, path: str, body: Any, *, principal: Principal, scheduling_class: str, state: Any
) -> InnerAnswer:
    """POST `body` to `path` on the principal's behalf. `state` is the application's, as in a real scope."""
    raw = msgspec.json.encode(body)
    inbox: list[Message] = [{"type": "http.request", "body": raw, "more_body": False}]
    started: Message = {}
    pieces: list[bytes] = []

    async def receive() -> Message:
        if inbox:
            return inbox.pop()
        return await _never_leaves()

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            started.update(message)
        else:
            pieces.append(message.get("body", b""))

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"content-type", b"application/json"), (b"content-length", str(len(raw)).encode())],
        "client": None,
        "server": None,
        "state": state,
        CLASS_KEY: scheduling_class,
        PRINCIPAL_KEY: principal,
    }
    await app(scope, receive, send)
    headers = dict(started["headers"])
    milliseconds = headers.get(b"retry-after-ms")
    return InnerAnswer(
        started["status"],
        msgspec.json.decode(b"".join(pieces)),
        None if milliseconds is None else int(milliseconds) / 1000,
    )


async def _never_leaves() -> Message:
    """A client that waits for its answer, however long: the caller cancels instead."""
    await asyncio.Event().wait()
    raise AssertionError("nobody sets this event")
