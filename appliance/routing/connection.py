"""One HTTP/1.1 connection to an upstream: write a request, read the head, read the body as it comes.

Parsed by httptools. Bounded in time (first byte, silence, the whole answer), in the size of heads and in what
piles up unread. Knows no JSON, no pool, no address. Chosen over httpx by measurement:
tests/bench/routing_client.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import httptools
from msgspec import Struct

from appliance.routing.failure import FailureKind, UpstreamFailure

MAX_HEAD_BYTES = 64 * 1024
UNREAD_BYTES = 256 * 1024  # above this the socket is not read until the reader has caught up


class Limits(Struct, frozen=True, kw_only=True):
    """Seconds: from the request to the body's first byte, between two pieces, for the whole answer."""

    first_byte: float
    between_bytes: float
    answer: float


class Head(Struct, kw_only=True):
    status: int
    headers: dict[bytes, bytes]  # names in lower case; of repeated ones the last


class Connection(asyncio.Protocol):
    """One exchange at a time. After any failure it is closed and not to be used again."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._failure: UpstreamFailure | None = None
        self._is_busy = False
        self._is_paused = False
        self._when_settled: Callable[[], None] | None = None
        self._reset()

    def _reset(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._headers: dict[bytes, bytes] = {}
        self._head: Head | None = None
        self._head_bytes = 0  # raw, of all that came until the head was whole
        self._header_bytes = 0  # parsed
        self._pieces: list[bytes] = []
        self._unread = 0
        self._is_complete = False
        self._is_kept_alive = False
        self._has_body = False
        self.has_answered = False  # any byte of the answer has come

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing() and self._failure is None

    @property
    def is_reusable(self) -> bool:
        """After a body was read to its end: whether the connection may serve another request."""
        return self.is_open and self._is_complete and self._is_kept_alive and not self._pieces

    # Exchange

    async def exchange(self, request: bytes, limits: Limits) -> Head:
        """Send `request`, head and body, and wait for the answer's head. Raises UpstreamFailure."""
        self._reset()
        self._is_busy = True
        self._limits = limits
        self._ends_at = self._loop.time() + limits.answer
        self._limit_at = min(self._loop.time() + limits.first_byte, self._ends_at)
        if not self.is_open or self._transport is None:
            raise self._failure or UpstreamFailure("cut", "the connection was closed while it was idle")
        self._transport.write(request)
        while self._head is None:
            await self._wait()
        return self._head

    async def read(self) -> bytes:
        """The next bytes of the body, as many as have come; b"" at its end. Raises UpstreamFailure."""
        while not self._pieces:
            if self._is_complete:
                self._rest()
                return b""
            await self._wait()
        piece = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._unread = 0
        if self._is_paused and self._transport is not None:
            self._is_paused = False
            self._transport.resume_reading()
        return piece

    def settle(self, when_settled: Callable[[], None]) -> None:
        """Drop what is left of an answer that has said its last word; `when_settled` is called once, at its
        end or when the connection fails.
        """
        self._when_settled = when_settled
        self._settle()

    def _settle(self) -> None:
        self._pieces.clear()
        if self._when_settled is not None and (self._is_complete or self._failure or not self.is_open):
            told, self._when_settled = self._when_settled, None
            self._rest()
            told()

    def abort(self) -> None:
        """Close at once; the upstream sees the connection go and can stop its work."""
        self._rest()
        if self._transport is not None:
            self._transport.abort()

    def _rest(self) -> None:
        self._is_busy = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # Waiting

    async def _wait(self) -> None:
        if self._failure is not None:
            raise self._failure
        self._waiter = self._loop.create_future()
        if self._has_body:  # the silence begins when somebody listens
            self._limit_at = max(self._limit_at, self._next_limit())
        if self._timer is None:
            self._timer = self._loop.call_at(self._limit_at, self._look_at_clock)
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _next_limit(self) -> float:
        return min(self._loop.time() + self._limits.between_bytes, self._ends_at)

    def _look_at_clock(self) -> None:
        """One timer per exchange, moved on when it rings early: rearming it for every piece costs more."""
        self._timer = None
        if self._waiter is None or self._waiter.done():
            return  # the reader is slow, not the upstream; the next wait sets the timer again
        now = self._loop.time()
        if now < self._limit_at:
            self._timer = self._loop.call_at(self._limit_at, self._look_at_clock)
            return
        kind: FailureKind = "stall" if self._has_body else "timeout"
        if now >= self._ends_at:
            self._fail("timeout", f"the answer took longer than {self._limits.answer:g} s")
        elif kind == "stall":
            self._fail("stall", f"nothing came for {self._limits.between_bytes:g} s")
        else:
            self._fail("timeout", f"no answer within {self._limits.first_byte:g} s")

    def _wake(self) -> None:
        if self._when_settled is not None:
            self._settle()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, kind: FailureKind, detail: str) -> None:
        if self._failure is None:
            self._failure = UpstreamFailure(kind, detail)
        if self._transport is not None:
            self._transport.abort()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(self._failure)
        self._wake()

    # The transport's calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if not self._is_busy:
            self._fail("garbage", "bytes came that no request asked for")
            return
        self.has_answered = True
        if self._head is None:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES + UNREAD_BYTES:
                self._fail("too_large", f"a head of more than {MAX_HEAD_BYTES} bytes")
                return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self._is_complete:
                self._fail("garbage", f"the answer is not HTTP: {str(error)[:80]}")
        if self._unread > UNREAD_BYTES and not self._is_paused and self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        return None  # half-closed counts as closed: what is missing will not come

    def connection_lost(self, error: Exception | None) -> None:
        ends_by_close = (
            self._head is not None
            and b"content-length" not in self._headers
            and b"chunked" not in self._headers.get(b"transfer-encoding", b"").lower()
        )
        if self._is_busy and not self._is_complete and ends_by_close and error is None:
            self._is_complete = True
            self._wake()
        elif self._failure is None and not self._is_complete:
            why = f": {error}" if error is not None else ""
            self._fail("cut", f"the connection was closed before the answer's end{why}")

    # The parser's calls

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > MAX_HEAD_BYTES:
            self._fail("too_large", "the answer's head is over its limits")

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status >= 200:
            self._head = Head(status=status, headers=self._headers)
            self._is_kept_alive = self._parser.should_keep_alive()
        else:
            self._headers = {}  # 1xx: the real head follows

    def on_body(self, body: bytes) -> None:
        self._limit_at = self._next_limit()
        self._has_body = True
        self._pieces.append(body)
        self._unread += len(body)

    def on_message_complete(self) -> None:
        if self._head is not None:
            self._is_complete = True
