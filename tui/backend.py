"""The one owner of the client: runs calls on few threads, and any of them can be cancelled.

    status = await backend.run(lambda client: client.status())
    async for words in backend.stream(lambda client: client.stream_chat(model, messages)):
        ...

Cancelling the task that awaits ends the call, its request and, with it, the server's work. Knows neither
screens nor what a call is for. httpx takes 100 ms to import: that is done on a thread, by the first call.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Iterable
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol, TypeVar

from tui.call import Call, here

if TYPE_CHECKING:
    from appliance.client.knowledge import KnowledgeClient

Value = TypeVar("Value")

THREADS = 8
STREAM_PIECES = 512  # that wait to be shown; a stream that is further ahead waits


class Door(Protocol):
    """Makes the client: to which server, with which key."""

    def __call__(self) -> KnowledgeClient: ...


class Backend:
    """Made in a running event loop. `door` is used on a thread, once."""

    def __init__(self, door: Door) -> None:
        self._loop = asyncio.get_running_loop()
        self._door = door
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="call")
        self._calls: set[Call] = set()
        self._opening = threading.Lock()
        self._client: KnowledgeClient | None = None
        self._left: list[KnowledgeClient] = []  # other clients' calls may still run
        self._is_closed = False

    @property
    def url(self) -> str:
        """The server's address; empty before the first call."""
        return self._client.url if self._client is not None else ""

    def reopen(self, door: Door) -> None:
        """Use another client from the next call on: another key, or another server."""
        with self._opening:
            if self._client is not None:
                self._left.append(self._client)
            self._door, self._client = door, None

    async def run(self, use: Callable[[KnowledgeClient], Value]) -> Value:
        """What `use` returns, or raises; the errors of the client are HearthErrors."""
        if self._is_closed:
            raise asyncio.CancelledError
        return await self._on_thread(use)

    async def _on_thread(self, use: Callable[[KnowledgeClient], Value]) -> Value:
        call = Call(self._loop)
        self._calls.add(call)
        try:
            return await asyncio.wrap_future(self._pool.submit(self._work, call, use))
        finally:
            self._calls.discard(call)
            call.cancel()  # says nothing to one that is over

    async def stream(self, use: Callable[[KnowledgeClient], Iterable[Value]]) -> AsyncGenerator[list[Value]]:
        """The pieces that came since the last look, at least one. Raises what the iterable raises."""
        pieces: list[Value] = []
        came, room = asyncio.Event(), threading.Semaphore(STREAM_PIECES)

        def take(piece: Value) -> None:
            pieces.append(piece)
            came.set()

        def read(client: KnowledgeClient) -> None:
            for piece in use(client):
                room.acquire()
                self._loop.call_soon_threadsafe(take, piece)

        reading = asyncio.ensure_future(self.run(read))
        reading.add_done_callback(lambda _: came.set())
        try:
            while not reading.done() or pieces:
                await came.wait()
                came.clear()
                if pieces:
                    batch, pieces = pieces, []
                    room.release(len(batch))
                    yield batch
            await reading
        finally:
            reading.cancel()
            room.release(STREAM_PIECES)  # a reader that waits for room sees that it is cancelled

    async def close(self) -> None:
        """Ends every call and the connections; later calls are cancelled at once."""
        self._is_closed = True
        for call in list(self._calls):
            call.cancel()
        if self._client is not None or self._left:
            await self._on_thread(self._close_all)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _close_all(self, client: KnowledgeClient) -> None:
        for each in (*self._left, client):
            each.close()

    def _work(self, call: Call, use: Callable[[KnowledgeClient], Value]) -> Value:
        if call.is_cancelled:
            raise CancelledError
        here.call = call
        return use(self._opened())

    def _opened(self) -> KnowledgeClient:
        with self._opening:
            if self._client is None:
                self._client = self._door()
            return self._client
