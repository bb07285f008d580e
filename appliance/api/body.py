"""Request bodies: read within a limit, decoded within a depth."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from starlette.requests import Request

from appliance.errors import Cancelled, InvalidJSON, PayloadTooLarge

MAX_CONTAINERS = 262_144  # lists and objects; each costs tens of bytes of memory for two of the body
_decoder = msgspec.json.Decoder()


async def read_json(request: Request, *, max_bytes: int, max_depth: int) -> Any:
    """The body as plain values.

    Raises PayloadTooLarge before reading what announces itself as too large, and as soon as what does not
    turns out to be; InvalidJSON for anything that is not JSON, NaN and infinities included, or too deep.
    """
    return decode_json(await read_body(request, max_bytes), max_depth)


async def read_body(request: Request, max_bytes: int) -> bytes:
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > max_bytes:
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
    """Counts brackets outside strings: nearly free where there are few, quick where there are many."""
    if body.count(b"[") + body.count(b"{") <= max_depth:
        return
    # Without its escapes, a text's quotation marks do nothing but open and close strings.
    text = np.frombuffer(body.replace(b"\\\\", b"").replace(b'\\"', b""), np.uint8)
    is_outside = np.cumsum(text == ord('"'), dtype=np.uint8) % 2 == 0
    opens = is_outside & ((text == ord("[")) | (text == ord("{")))
    closes = is_outside & ((text == ord("]")) | (text == ord("}")))
    depth = np.cumsum(opens.astype(np.int8) - closes.astype(np.int8), dtype=np.int32)
    if int(depth.max(initial=0)) > max_depth:
        raise InvalidJSON(f"the request body nests deeper than {max_depth} levels")
    if int(np.count_nonzero(opens)) > MAX_CONTAINERS:
        raise InvalidJSON(f"the request body holds more than {MAX_CONTAINERS} lists and objects")


def _too_large(max_bytes: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"the request body is larger than {max_bytes} bytes")
