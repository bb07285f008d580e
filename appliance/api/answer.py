"""Answers' common parts: JSON bodies, and the headers that say who answered, why, and what was ignored."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from starlette.responses import Response

from appliance.routing.request import Route

MAX_WARNING_HEADERS = 8
_encode = msgspec.json.Encoder().encode


def route_headers(routes: Sequence[Route], warnings: Sequence[str]) -> dict[str, str]:
    """`x-hearth-*`: who answers, why, after which attempts; of several the first, with all attempts."""
    first = routes[0]
    attempts = [f"{a.platform}/{a.model} {a.outcome}" for route in routes for a in route.attempts]
    if not any(a.outcome == "ok" for a in first.attempts):
        attempts.append(f"{first.platform}/{first.model} answering")
    headers = {
        "x-hearth-route": first.name,
        "x-hearth-model": header_text(first.model),
        "x-hearth-reason": header_text(first.reason),
        "x-hearth-attempts": header_text(", ".join(attempts)),
    }
    return headers | warning_headers(warnings)


def warning_headers(warnings: Sequence[str]) -> dict[str, str]:
    if not warnings:
        return {}
    return {"x-hearth-warning": "; ".join(map(header_text, warnings[:MAX_WARNING_HEADERS]))}


def noted(body: msgspec.Struct, warnings: Sequence[str]) -> Response:
    """An answer that no model was asked for, with its warnings in the header too."""
    return Response(_encode(body), headers=warning_headers(warnings), media_type="application/json")


def json_answer(body: msgspec.Struct, routes: Sequence[Route], warnings: Sequence[str] = ()) -> Response:
    return Response(_encode(body), headers=route_headers(routes, warnings), media_type="application/json")


def json_body(body: msgspec.Struct, status: int = 200) -> Response:
    return Response(_encode(body), status_code=status, media_type="application/json")


def header_text(text: str) -> str:
    """`text` as a header may carry it: printable ASCII, at most 500 characters."""
    if text.isascii() and text.isprintable():
        return text[:500]
    return "".join(c if " " <= c <= "~" else "?" for c in text)[:500]
