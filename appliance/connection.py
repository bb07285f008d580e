"""A client's connection: uvicorn's, with an end to everything that a client can drag out or pile up.

Headers must arrive in time and within a size; a body must arrive, and an answer must leave, at a least rate;
one address may hold so many connections. What asks too much gets a typed error where one can still be sent,
and is left. Each connection has one timer, which is armed only while something is due.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import Counter
from typing import Any, cast

import httptools
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from appliance.api.errors import error_response
from appliance.api.gate import CERTIFICATE_KEY
from appliance.config.schema import Limits
from appliance.errors import HeadersTooLarge, HearthError, InvalidRequest, RequestTimeout, TooManyConnections

NO_LINGERING = struct.pack("ii", 1, 0)  # of SO_LINGER: the connection is reset, what is unsent is dropped
SEND_BUFFER = (
    256 * 1024
)  # what the kernel holds for a client; by itself it would hold megabytes for slow ones
LINGER_SECONDS = 1.0  # for the last words to a client that is left
RETRY_SECONDS = 1.0
ONE_READ = 256 * 1024  # what a transport may hand over at once: more than that of a head alone is too much


class Addresses:
    """How many connections each address has."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._open: Counter[str] = Counter()

    def enter(self, address: str) -> bool:
        """Whether there was room; if so, `leave` must follow."""
        if self._open[address] >= self.most:
            return False
        self._open[address] += 1
        return True

    def leave(self, address: str) -> None:
        self._open[address] -= 1
        if not self._open[address]:
            del self._open[address]


class LimitedConnection(HttpToolsProtocol):
    """What uvicorn makes for each connection; `limits` and `addresses` are shared by all."""

    def __init__(self, limits: Limits, addresses: Addresses, **of_uvicorn: Any) -> None:
        super().__init__(**of_uvicorn)
        self._limits, self._addresses = limits, addresses
        self._served = self.app
        self._address: str | None = None  # that this connection is counted under
        self._certificate: bytes | None = None
        self._refusal: HearthError | None = None
        self._is_reading_head = True
        self._is_reading_body = False
        self._head_bytes = self._raw_bytes = 0  # of the head: as parsed, and as it came
        self._received = 0  # bytes of the body, since the last look
        self._was_paused = False  # we ourselves read nothing for a while
        self._unsent = 0  # bytes that the client had not taken at the last look, while none are added
        self._timer: asyncio.TimerHandle | None = None

    # Coming and going

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        address = self.client[0] if self.client else ""
        if not self._addresses.enter(address):
            transport.abort()
            return
        self._address = address
        opened = transport.get_extra_info("socket")
        if opened is not None:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        tls = transport.get_extra_info("ssl_object")
        self._certificate = tls.getpeercert(binary_form=True) if tls is not None else None
        self._arm(self._limits.receive_seconds, self._on_late_head)

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        if self._address is not None:
            self._addresses.leave(self._address)
            self._address = None
        super().connection_lost(exc)

    # Receiving

    def data_received(self, data: bytes) -> None:
        if self._refusal is not None or self.transport.is_closing():
            return
        if self._is_reading_head and self._timer is None and self._is_answered():
            self._arm(self._limits.receive_seconds, self._on_late_head)
        super().data_received(data)
        if self._refusal is None and self._is_reading_head:
            self._raw_bytes += len(data)
            if self._raw_bytes > self._limits.header_bytes + ONE_READ:
                self._leave(self._too_large())

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_reading_head, self._head_bytes, self._unsent = True, 0, 0
        if self._certificate:
            cast(dict[str, Any], self.scope)[CERTIFICATE_KEY] = self._certificate

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._check_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._check_head(len(name) + len(value) + 4)
        if len(self.headers) > self._limits.header_count:
            self._refuse(HeadersTooLarge(f"a request may have {self._limits.header_count} headers"))

    def on_headers_complete(self) -> None:
        is_crowded = len(self.connections) > self._limits.connections
        self.app = _crowded if is_crowded else self._served
        super().on_headers_complete()
        self._is_reading_head, self._is_reading_body = False, True
        self._received, self._was_paused = 0, False
        self._arm(self._limits.stall_seconds, self._look)

    def on_body(self, body: bytes) -> None:
        self._received += len(body)
        super().on_body(body)
        self._was_paused |= self.flow.read_paused

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._is_reading_head, self._is_reading_body, self._raw_bytes = True, False, 0
        if not self._pending():
            self._disarm()

    def send_400_response(self, msg: str) -> None:
        """Of a head that is no HTTP, or that was refused on the way."""
        self._leave(self._refusal or InvalidRequest("this is no HTTP/1.1 request", code="invalid_http"))

    # Sending

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_sending()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._unsent = 0

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._pending():
            self._watch_sending()

    def _watch_sending(self) -> None:
        self._unsent = self._pending()
        self._arm(self._limits.stall_seconds, self._look)

    def _is_answered(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _pending(self) -> int:
        """Bytes that are written and not taken."""
        return int(self.transport.get_write_buffer_size())

    # Time

    def _look(self) -> None:
        """Leave a client that does not keep up; look again while there is something to keep up with."""
        self._timer = None
        least = self._limits.stall_rate * self._limits.stall_seconds
        if self._unsent:
            unsent = self._pending()
            if unsent > max(0, self._unsent - least):
                self._reset()
                return
            self._unsent = unsent
        if self._is_reading_body:
            waits_for_us = self.flow.read_paused or self._was_paused or self.cycle.waiting_for_100_continue
            if self._received < least and not waits_for_us:
                self._leave(RequestTimeout("the request's body arrives too slowly"))
                return
            self._received, self._was_paused = 0, self.flow.read_paused
        if self._unsent or self._is_reading_body:
            self._arm(self._limits.stall_seconds, self._look)

    def _on_late_head(self) -> None:
        self._timer = None
        self._leave(
            RequestTimeout(f"the request's headers took longer than {self._limits.receive_seconds:g} s")
        )

    def _arm(self, seconds: float, then: Any) -> None:
        self._disarm()
        self._timer = self.loop.call_later(seconds, then)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _reset(self) -> None:
        """Close at once, and with it what the kernel still holds for a client that does not take it."""
        opened = self.transport.get_extra_info("socket")
        if opened is not None and opened.fileno() >= 0:  # it may have closed by itself meanwhile
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGERING)
        self.transport.abort()

    # Refusing

    def _check_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > self._limits.header_bytes:
            self._refuse(self._too_large())

    def _too_large(self) -> HearthError:
        return HeadersTooLarge(f"a request's line and headers may take {self._limits.header_bytes} bytes")

    def _refuse(self, error: HearthError) -> None:
        """Stop the parser, which then asks for `send_400_response`."""
        self._refusal = error
        raise httptools.HttpParserError(error.message)

    def _leave(self, error: HearthError) -> None:
        """Tell the client why, where it can still be told, and close."""
        self._disarm()
        self._refusal = error
        if self.transport.is_closing():
            self._reset()
            return
        if self._is_answered() or not self.cycle.response_started:
            self.transport.write(_bytes_of(error))
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True  # what is written from now on goes nowhere
            self.cycle.message_event.set()
        self.transport.close()
        self.loop.call_later(LINGER_SECONDS, self._reset)


def _bytes_of(error: HearthError) -> bytes:
    response = error_response(error)
    head = [f"HTTP/1.1 {response.status_code} \r\n".encode("ascii")]
    head += [name + b": " + value + b"\r\n" for name, value in response.raw_headers]
    return b"".join([*head, b"connection: close\r\n\r\n", bytes(response.body)])


async def _crowded(scope: Scope, receive: Receive, send: Send) -> None:
    """What everybody is answered while there are too many connections."""
    error = TooManyConnections("too many connections are open already", retry_after=RETRY_SECONDS)
    response = error_response(error, scope["path"])
    response.headers["connection"] = "close"
    await response(scope, receive, send)
