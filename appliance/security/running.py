"""What runs on behalf of a credential, and the way to end it when the credential ends.

Belongs to the event loop. Knows callbacks and times, neither keys nor requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator

End = Callable[[str], None]  # is told the reason, once

CHECK_SECONDS = 0.5  # a wall clock may be set: a time of day is looked at again, not slept towards


class Running:
    """`clock` is the time of day, as `expires_at` is."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._ends: dict[str, dict[object, End]] = {}
        self._expiries: dict[str, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    @contextlib.contextmanager
    def hold(self, credential: str, end: End, expires_at: float | None = None) -> Iterator[None]:
        """`end` is called with the reason if the credential ends before the block does."""
        token = object()
        self._ends.setdefault(credential, {})[token] = end
        if expires_at is not None:
            self.expire(credential, expires_at)
        try:
            yield
        finally:
            self._ends.get(credential, {}).pop(token, None)
            if not self._ends.get(credential):
                self._ends.pop(credential, None)
                self._expiries.pop(credential, None)

    def end(self, credential: str, reason: str) -> int:
        """How many there were."""
        held = self._ends.get(credential, {})
        ends = list(held.values())
        held.clear()
        for each in ends:
            each(reason)
        return len(ends)

    def end_all(self, belongs: Callable[[str], bool], reason: str) -> int:
        """All whose credential `belongs`."""
        return sum(self.end(credential, reason) for credential in list(self._ends) if belongs(credential))

    def expire(self, credential: str, at: float | None) -> None:
        """From when on what runs with the credential ends; None: never."""
        if at is None:
            self._expiries.pop(credential, None)
        elif credential in self._ends:
            self._expiries[credential] = at
            self._look()

    def _look(self) -> None:
        """End what has expired, and look again while there is something that will."""
        now = self._clock()
        for credential, at in list(self._expiries.items()):
            if at <= now:
                del self._expiries[credential]
                self.end(credential, "the credential has expired")
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._expiries:
            wait = min(CHECK_SECONDS, min(self._expiries.values()) - now)
            self._timer = asyncio.get_running_loop().call_later(wait, self._look)
