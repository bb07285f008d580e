"""What a path is: its method, handler, who may call it, and the structs that go in and out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from starlette.requests import Request
from starlette.responses import Response

from appliance.principal import Role

Handler = Callable[[Request], Awaitable[Response]]
Access = Role | Literal["public"]  # the least role; public: anybody who reaches the server, without a key


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path. `reply` is a struct for JSON, or a media type for anything else; `query`
    a struct of the query parameters. `access` has no default: who may call a path is said, or it is none."""

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
    access: Access = field(kw_only=True)
