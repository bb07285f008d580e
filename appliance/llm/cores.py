"""How many threads a model should compute with just now: as many as really get a core each.

llama.cpp's threads meet at a barrier after every operation, hundreds of times a token. Spinning there is
what makes them fast on a quiet machine, and what ruins them where others want the cores too: each waits,
spinning, for one that is not running. The system counts how long threads that could run had to wait for a
core; when ours wait, there are fewer of them for a while. Knows these counters, not llama.cpp. On systems
without them nothing ever changes.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

WINDOW = 0.2  # seconds of computing between two looks
TOLERATED = 0.5  # cores' worth of waiting: our own gateway and its clients want to run, too
PATIENCE = 2  # windows with more than that in a row, before threads are taken back
SHORTEST_RETREAT, LONGEST_RETREAT = 0.5, 16.0  # seconds of computing with fewer threads, before trying again

_TASKS = Path("/proc/self/task")


def read_waiting() -> float | None:
    """Seconds that this process's threads have waited for a core in their lives; None where nobody counts.

    The second field of the kernel's schedstat, in nanoseconds.
    """
    try:
        return sum(int((task / "schedstat").read_text().split()[1]) for task in _TASKS.iterdir()) / 1e9
    except (OSError, IndexError, ValueError):
        return None


def usable_cores() -> int:
    return len(os.sched_getaffinity(0))


class FreeCores:
    """`count` threads, at most `most`."""

    def __init__(self, most: int, read: Callable[[], float | None] = read_waiting) -> None:
        self.count = self._most = most
        self._read = read
        self._waited = read()
        self._computed = 0.0
        self._crowded = 0  # windows in a row
        self._retreat = SHORTEST_RETREAT
        self._left = 0.0  # of the present retreat

    def computed(self, seconds: float) -> bool:
        """So long has a computation taken, with `count` threads. Whether `count` has changed."""
        self._computed += seconds
        if self._most == 1 or self._computed < WINDOW:
            return False
        computed, self._computed = self._computed, 0.0
        before, self._waited = self._waited, self._read()
        if before is None or self._waited is None:
            return False
        if self.count < self._most:
            return self._go_on_retreating(computed)
        lost = (self._waited - before) / computed
        if lost <= TOLERATED:
            self._retreat, self._crowded = max(SHORTEST_RETREAT, self._retreat / 2), 0
            return False
        self._crowded += 1
        if self._crowded < PATIENCE:
            return False
        self.count = max(1, min(self._most - 1, int(self._most - lost)))
        self._left, self._retreat = self._retreat, min(LONGEST_RETREAT, 2 * self._retreat)
        return True

    def _go_on_retreating(self, computed: float) -> bool:
        self._left -= computed
        if self._left > 0:
            return False
        self.count, self._crowded = (
            self._most,
            PATIENCE - 1,
        )  # they are probably still there: one look is enough
        return True
