"""What a long step tells its caller: how far it is, what is left, and what it had to leave out.

Knows no terminal: callers draw.
"""

from __future__ import annotations

import time
from typing import Literal, Protocol

import msgspec

Stage = Literal["download", "copy", "convert", "verify"]

_INTERVAL = 0.1  # seconds between two events of one step; terminals redraw no faster


class Advance(msgspec.Struct, frozen=True):
    """One step's state. `done` and `total` are bytes; `eta` is seconds left, None while unknown."""

    model: str
    file: str
    stage: Stage
    source: str
    done: int
    total: int
    elapsed: float
    eta: float | None


class Notice(msgspec.Struct, frozen=True):
    """A plain sentence the user should see: a source skipped, a fallback taken, a fact assumed."""

    model: str
    text: str


Event = Advance | Notice


class Progress(Protocol):
    def __call__(self, event: Event, /) -> None: ...


def silent(_event: Event, /) -> None:
    """A Progress for callers that want none."""


class Meter:
    """Measures one step and reports it at most every 0.1 s, and always at its end.

    Silent until something moves. The rate is the mean since the step began, counting only bytes moved
    now and not those a resumed step found in place.
    """

    def __init__(
        self, progress: Progress, model: str, file: str, stage: Stage, source: str, total: int, done: int = 0
    ) -> None:
        self._progress = progress
        self._model, self._file, self._stage, self._source = model, file, stage, source
        self._total = total
        self._found = done
        self._done = done
        self._began = time.monotonic()
        self._reported = 0.0

    @property
    def done(self) -> int:
        return self._done

    def advance(self, count: int) -> None:
        self.reach(self._done + count)

    def reach(self, done: int) -> None:
        """Sets the bytes done so far, capped at the total."""
        before, self._done = self._done, min(done, self._total)
        if before == self._done == self._total:
            return
        if self._done == self._total or time.monotonic() - self._reported >= _INTERVAL:
            self._report()

    def restart(self) -> None:
        """Begins the step again from nothing."""
        self._found = self._done = 0
        self._began = time.monotonic()

    def _report(self) -> None:
        now = time.monotonic()
        self._reported = now
        elapsed = now - self._began
        moved = self._done - self._found
        eta = elapsed * (self._total - self._done) / moved if moved > 0 else None
        self._progress(
            Advance(self._model, self._file, self._stage, self._source, self._done, self._total, elapsed, eta)
        )
