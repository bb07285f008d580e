"""The time, in one place, so that what is shown of it can be held still."""

from __future__ import annotations

import time


def now() -> float:
    """Seconds since the epoch."""
    return time.time()


def ticks() -> float:
    """Seconds since some moment: for stretches of time."""
    return time.monotonic()
