"""One use of the client on a thread, which another thread can cancel. Knows no HTTP."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import CancelledError, Future
from typing import Any, TypeVar, cast

Value = TypeVar("Value")


class Call:
    """What the thread waits for now, and whether it was cancelled."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._pending: Future[Any] | None = None
        self.is_cancelled = False

    def wait(self, task: Coroutine[Any, Any, Value]) -> Value:
        """The task's value; called on the thread. Raises CancelledError."""
        with self._lock:
            if self.is_cancelled:
                task.close()
                raise CancelledError
            self._pending = asyncio.run_coroutine_threadsafe(task, self._loop)
        return cast(Value, self._pending.result())

    def leave(self, task: Coroutine[Any, Any, None]) -> None:
        """Has it done without waiting for it, cancelled or not."""
        try:
            asyncio.run_coroutine_threadsafe(task, self._loop)
        except RuntimeError:  # the UI has ended, and its connections with it
            task.close()

    def cancel(self) -> None:
        with self._lock:
            self.is_cancelled = True
            if self._pending is not None:
                self._pending.cancel()


class _Here(threading.local):
    """The call that this thread works on."""

    call: Call


here = _Here()
