"""What a path is: its method, handler, and the structs that go in and out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from starlette.requests import Request
from starlette.responses import Response

Handler = Callable[[Request], Awaitable[Response]]


class Operation(NamedTuple):
    """One method of one path. `reply` is a struct for JSON, or a media type for anything else; `query`
    a struct of the query parameters."""

    method: str
    path: str
    handler: Handler
    summary: str
    reply: Any
    request: Any = None
    errors: tuple[int, ...] = ()
    extra_replies: tuple[tuple[int, Any], ...] = ()
    streams: bool = False
    query: Any = None
    request_media: str = "application/json"
