"""Kept connections to one endpoint: a request takes the one used last, or opens its own.

How many requests run at once is `balance`'s business; here only idle connections are bounded.
"""

from __future__ import annotations

import asyncio

from appliance.routing.connection import Connection, Head, Limits
from appliance.routing.dial import Dialer
from appliance.routing.failure import UpstreamFailure

IDLE_SECONDS = 20.0
MAX_IDLE = 64
SETTLE_SECONDS = 1.0


class Pool:
    def __init__(self, dialer: Dialer) -> None:
        self._dialer = dialer
        self._idle: list[tuple[Connection, asyncio.TimerHandle]] = []
        self._is_closed = False
        self.opened = 0

    async def exchange(self, request: bytes, limits: Limits) -> tuple[Connection, Head]:
        """Send `request`; the connection with the answer's head. Give it back, or abort it.

        A kept connection that its server closed without a byte of answer is replaced once: the server never
        took the request. Raises UpstreamFailure.
        """
        connection = self._take()
        if connection is not None:
            try:
                return connection, await connection.exchange(request, limits)
            except UpstreamFailure as failure:
                if failure.kind != "cut" or connection.has_answered:
                    raise
            except BaseException:
                connection.abort()
                raise
        connection = await self._dialer.connect()
        self.opened += 1
        try:
            return connection, await connection.exchange(request, limits)
        except BaseException:
            connection.abort()
            raise

    def give_back(self, connection: Connection) -> None:
        """Keep a connection whose answer was read to the end; any other is closed."""
        if self._is_closed or not connection.is_reusable or len(self._idle) >= MAX_IDLE:
            connection.abort()
            return
        timer = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._expire, connection)
        self._idle.append((connection, timer))

    def give_back_soon(self, connection: Connection) -> None:
        """The same for an answer that is over but for the bytes that end it; they get a moment to come."""
        timer = asyncio.get_running_loop().call_later(SETTLE_SECONDS, connection.abort)

        def settled() -> None:
            timer.cancel()
            self.give_back(connection)

        connection.settle(settled)

    def close(self) -> None:
        """Close what is idle; connections in use close when they are given back."""
        self._is_closed = True
        for connection, timer in self._idle:
            timer.cancel()
            connection.abort()
        self._idle.clear()

    def _take(self) -> Connection | None:
        while self._idle:
            connection, timer = self._idle.pop()
            timer.cancel()
            if connection.is_open:
                return connection
            connection.abort()
        return None

    def _expire(self, connection: Connection) -> None:
        self._idle = [pair for pair in self._idle if pair[0] is not connection]
        connection.abort()
