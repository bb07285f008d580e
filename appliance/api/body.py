"""Request bodies: read within a limit, decoded within a depth."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request

from appliance.errors import Cancelled, InvalidJSON, PayloadTooLarge

_decoder = msgspec.json.Decoder()


async def read_json(request: Request, *, max_bytes: int, max_depth: int) -> Any:
    """The body as plain values.

    Raises PayloadTooLarge before reading what announces itself as too large, and as soon as what does not
    turns out to be; InvalidJSON for anything that is not JSON, NaN and infinities included, or too deep.
    """
    return decode_json(await read_body(request, max_bytes), max_depth)


async def read_body(request: Request, max_bytes: int) -> bytes:
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > max_bytes:
        raise _too_large(max_bytes)
    body = bytearray()
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise Cancelled("the client left before its request was complete")
        body += message.get("body", b"")
        if len(body) > max_bytes:
            raise _too_large(max_bytes)
        if not message.get("more_body", False):
            return bytes(body)


def decode_json(body: bytes, max_depth: int) -> Any:
    if not body:
        raise InvalidJSON("the request body is empty; this endpoint reads a JSON object")
    _check_depth(body, max_depth)
    try:
        value = _decoder.decode(body)
        body.decode("utf-8")
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidJSON(f"the request body is not valid JSON: {error}") from error
    except RecursionError as error:
        raise InvalidJSON(f"the request body nests deeper than {max_depth} levels") from error
    return value


def _check_depth(body: bytes, max_depth: int) -> None:
    """Counts brackets outside strings; cheap where there are few, exact where there are many."""
    if body.count(b"[") + body.count(b"{") <= max_depth:
        return
    depth, in_string, escaped = 0, False, False
    for byte in body:
        if in_string:
            if escaped:
                escaped = False
            elif byte == 0x5C:
                escaped = True
            elif byte == 0x22:
                in_string = False
        elif byte == 0x22:
            in_string = True
        elif byte in (0x5B, 0x7B):
            depth += 1
            if depth > max_depth:
                raise InvalidJSON(f"the request body nests deeper than {max_depth} levels")
        elif byte in (0x5D, 0x7D):
            depth -= 1


def _too_large(max_bytes: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"the request body is larger than {max_bytes} bytes")
