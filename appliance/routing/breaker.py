"""Whether an instance is asked at all: closed, open for a while, half-open for one try. Pure, its clock
injected.

It opens after failures in a row, or when too large a share of the recent requests failed; the pause doubles
while the try after it fails. A Retry-After pauses it without counting as a failure. Knows nothing of HTTP.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from appliance.config.routing import Breaker as BreakerSettings

BreakerState = Literal["closed", "open", "half-open"]
SLOTS = 10  # parts of the window


class Breaker:
    """`clock` gives seconds and never goes back."""

    def __init__(self, settings: BreakerSettings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._failures = 0
        self._openings = 0
        self._open_until = 0.0
        self._is_tripped = False  # open by failures; a mere pause leaves it False
        self._is_trying = False
        self._slots: list[list[int]] = []  # [slot number, requests, failures], oldest first

    @property
    def state(self) -> BreakerState:
        if self._clock() < self._open_until:
            return "open"
        return "half-open" if self._is_tripped else "closed"

    @property
    def down_for(self) -> float:
        """Seconds until a request may pass; 0 when one may now. A running try counts as not passing."""
        return max(0.0, self._open_until - self._clock())

    def may_pass(self) -> bool:
        """Whether `enter` would let a request through."""
        return self.down_for == 0 and not (self._is_tripped and self._is_trying)

    def enter(self) -> bool:
        """Let one request through, or not. One that passed must end in succeed, fail, pause or leave."""
        if not self.may_pass():
            return False
        if self._is_tripped:
            self._is_trying = True
        return True

    def succeed(self) -> None:
        """The instance answered well; a half-open breaker closes."""
        if self._is_tripped:
            self._slots.clear()
        self._failures = self._openings = 0
        self._is_tripped = self._is_trying = False
        self._open_until = 0.0
        self._count(failed=False)

    def fail(self) -> None:
        """The instance failed; a half-open breaker opens again, for twice as long."""
        self._failures += 1
        self._count(failed=True)
        if self._clock() < self._open_until and self._is_tripped:
            return  # a request from before the opening; it must not prolong the pause
        if self._is_tripped or self._failures >= self._settings.failures or self._fails_too_often():
            self._open()

    def pause(self, seconds: float) -> None:
        """The instance asked to be left alone (Retry-After); obeyed up to the settings' cap."""
        self._is_trying = False
        wait = min(max(seconds, 0.0), self._settings.retry_after_most)
        self._open_until = max(self._open_until, self._clock() + wait)

    def leave(self) -> None:
        """A request that passed ended without telling anything: cancelled, or the client's own fault."""
        self._is_trying = False

    def _open(self) -> None:
        pause = self._settings.open_seconds * 2.0 ** min(self._openings, 30)
        self._openings += 1
        self._is_tripped, self._is_trying = True, False
        self._open_until = max(self._open_until, self._clock() + min(pause, self._settings.open_seconds_most))

    def _count(self, *, failed: bool) -> None:
        slot = int(self._clock() / self._settings.window_seconds * SLOTS)
        if not self._slots or self._slots[-1][0] != slot:
            self._slots.append([slot, 0, 0])
            self._slots = [each for each in self._slots if each[0] > slot - SLOTS]
        self._slots[-1][1] += 1
        self._slots[-1][2] += failed

    def _fails_too_often(self) -> bool:
        requests = sum(each[1] for each in self._slots)
        failures = sum(each[2] for each in self._slots)
        return requests >= self._settings.window_requests and failures >= self._settings.error_rate * requests
