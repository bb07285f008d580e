"""Owns how a long step looks: one redrawn line on a terminal, a plain line now and then elsewhere.

Also reads the two kinds of progress line that our tools print. Knows nothing of what is being done.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable
from typing import Protocol

PLAIN_INTERVAL_S = 10.0
REDRAW_INTERVAL_S = 0.1
_NINJA_STEP = re.compile(r"\s*\[(\d{1,7})/(\d{1,7})\]\s")
_PIP_BYTES = re.compile(r"\s*Progress (\d{1,15}) of (\d{1,15})\s*")
_BAR_CELLS = 24


class Screen(Protocol):
    """The part of a text stream that drawing needs."""

    def write(self, text: str, /) -> int: ...
    def flush(self) -> None: ...
    def isatty(self) -> bool: ...


def ninja_step(line: str) -> tuple[int, int] | None:
    """(finished, all) from a ninja line such as ``[12/79] c++ …``, else None."""
    return _counts(_NINJA_STEP.match(line))


def pip_bytes(line: str) -> tuple[int, int] | None:
    """(received, all) in bytes from a line of pip's ``--progress-bar raw``, else None."""
    return _counts(_PIP_BYTES.fullmatch(line))


def _counts(match: re.Match[str] | None) -> tuple[int, int] | None:
    if match is None:
        return None
    done, total = int(match[1]), int(match[2])
    return (done, total) if 0 <= done <= total and total > 0 else None


def seconds_left(fraction: float, elapsed_s: float) -> float | None:
    """The time left if the rest goes as fast as the part done so far; None before there is a rate."""
    if fraction <= 0.0 or elapsed_s <= 0.0:
        return None
    return elapsed_s * (1.0 - min(fraction, 1.0)) / min(fraction, 1.0)


def duration(seconds: float) -> str:
    """Seconds as a person reads them: ``42 s``, ``3 min 05 s``."""
    whole = max(0, round(seconds))
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60:02d} s"


class Progress:
    """One step's line. `show` sets what is known, `tick` draws it when it is time to."""

    def __init__(self, screen: Screen, label: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._screen = screen
        self._label = label
        self._clock = clock
        self._started = clock()
        self._counted_from: float | None = None
        self._drawn = self._started
        self._fraction: float | None = None
        self._note = ""
        self._tty = screen.isatty()
        if not self._tty:
            self._print(f"{label} …")

    def show(self, fraction: float | None, note: str) -> None:
        """Set the part done (0 to 1, None if unknown) and a few words on it."""
        if fraction is not None and self._counted_from is None:
            self._counted_from = self._clock()
        self._fraction, self._note = fraction, note

    def tick(self) -> None:
        """Draw if due: every REDRAW_INTERVAL_S on a terminal, every PLAIN_INTERVAL_S elsewhere."""
        now = self._clock()
        if now - self._drawn < (REDRAW_INTERVAL_S if self._tty else PLAIN_INTERVAL_S):
            return
        self._drawn = now
        if self._tty:
            width = shutil.get_terminal_size().columns - 1
            self._screen.write(f"\r\x1b[K{self.line()[:width]}")
            self._screen.flush()
        else:
            self._print(self.line())

    def line(self) -> str:
        """The line as it stands now."""
        now = self._clock()
        parts = [self._label]
        if self._fraction is not None:
            filled = round(self._fraction * _BAR_CELLS)
            parts.append(f"{self._fraction:4.0%} [{'#' * filled}{'.' * (_BAR_CELLS - filled)}]")
            left = seconds_left(self._fraction, now - (self._counted_from or self._started))
            if left is not None:
                parts.append(f"{duration(left)} left")
        else:
            parts.append(duration(now - self._started))
        if self._note:
            parts.append(self._note)
        return " · ".join(parts)

    def finish(self, outcome: str = "done") -> None:
        """End the line for good."""
        text = f"{self._label} · {outcome} in {duration(self._clock() - self._started)}"
        self._print(f"\r\x1b[K{text}" if self._tty else text)

    def _print(self, text: str) -> None:
        self._screen.write(text + "\n")
        self._screen.flush()
