"""Answers' common parts: JSON bodies, and the headers that say which model answered and what was ignored."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from starlette.responses import Response

MAX_WARNING_HEADERS = 8
_encode = msgspec.json.Encoder().encode


def route_headers(model: str, warnings: Sequence[str]) -> dict[str, str]:
    """`x-hearth-*`: everything is answered by the local model until routing says otherwise."""
    headers = {"x-hearth-model": header_text(model), "x-hearth-route": "local"}
    if warnings:
        headers["x-hearth-warning"] = "; ".join(map(header_text, warnings[:MAX_WARNING_HEADERS]))
    return headers


def json_answer(body: msgspec.Struct, model: str, warnings: Sequence[str] = ()) -> Response:
    return Response(_encode(body), headers=route_headers(model, warnings), media_type="application/json")


def json_body(body: msgspec.Struct, status: int = 200) -> Response:
    return Response(_encode(body), status_code=status, media_type="application/json")


def header_text(text: str) -> str:
    """`text` as a header may carry it: printable ASCII, at most 500 characters."""
    return "".join(c if " " <= c <= "~" else "?" for c in text)[:500]
