"""Work that outlives its request: each run has a task, its lines so far, and whoever follows them.

Owns the tasks. Bounded twice: how many may be under way, and how many finished ones are remembered for
those who come late. Knows nothing of what a line says.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

from appliance.errors import Overloaded

log = logging.getLogger("hearth.background")

REMEMBERED = 32
RETRY_AFTER = 5.0


class Run:
    """One piece of work. `lines` only grows; `follow` waits for what is yet to come."""

    def __init__(self, snapshot: Callable[[], Any]) -> None:
        self.snapshot = snapshot  # what there is of its result now
        self.lines: list[bytes] = []
        self.is_over = False
        self._grown = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    def add(self, line: bytes) -> None:
        self.lines.append(line)
        self._tell()

    def end(self) -> None:
        self.is_over = True
        self._tell()

    def _tell(self) -> None:
        self._grown.set()
        self._grown = asyncio.Event()

    async def follow(self, start: int = 0) -> AsyncGenerator[bytes]:
        """Its lines from the one numbered `start`, until the work is over."""
        place = start
        while True:
            while place < len(self.lines):
                yield self.lines[place]
                place += 1
            if self.is_over:
                return
            await self._grown.wait()


class Background:
    """`limit`: most runs under way at once."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.is_stopping = False
        self._running: dict[str, Run] = {}
        self._finished: OrderedDict[str, Run] = OrderedDict()

    def check_room(self) -> None:
        """Raises Overloaded."""
        if len(self._running) >= self._limit:
            raise Overloaded(
                f"{self._limit} responses run in the background already (archive.background)",
                retry_after=RETRY_AFTER,
            )

    def begin(
        self, id: str, snapshot: Callable[[], Any], work: Callable[[Run], Coroutine[Any, Any, None]]
    ) -> Run:
        """Start `work`, which adds lines to its run. Raises Overloaded."""
        self.check_room()
        run = self._running[id] = Run(snapshot)
        run.task = asyncio.create_task(self._do(id, run, work))
        return run

    def find(self, id: str) -> Run | None:
        return self._running.get(id) or self._finished.get(id)

    def is_running(self, id: str) -> bool:
        return id in self._running

    async def cancel(self, id: str) -> bool:
        """End the run and wait for its end; False when there is none under way."""
        run = self._running.get(id)
        if run is None or run.task is None:
            return False
        run.task.cancel()
        await asyncio.gather(run.task, return_exceptions=True)
        return True

    async def stop(self) -> None:
        self.is_stopping = True
        for id in list(self._running):
            await self.cancel(id)

    async def _do(self, id: str, run: Run, work: Callable[[Run], Coroutine[Any, Any, None]]) -> None:
        try:
            await work(run)
        except Exception:
            log.exception("background work %s met a bug", id)
        finally:
            run.end()
            del self._running[id]
            self._finished[id] = run
            while len(self._finished) > REMEMBERED:
                self._finished.popitem(last=False)
