"""The server over time: a sample every few seconds for the last hour, one every minute for the last day.

Owned by the event loop. Counts what it is told of; how things stand now is given at each sample. Bounded by
two rings; what is older is forgotten.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec
from msgspec import Struct

from appliance.admin import History, Sample
from appliance.records import Timings, Usage

FINE_STEP, COARSE_STEP = 5.0, 60.0
FINE_SAMPLES, COARSE_SAMPLES = 720, 1440
MOST_TIMES = 4096  # answers of one step whose times are kept


class Route(Protocol):
    @property
    def is_local(self) -> bool: ...


class Gauges(Struct, frozen=True, kw_only=True):
    """How things stand at a moment; `tokens`: of all answers since the start."""

    tokens: int = 0
    sessions: int = 0
    running: int = 0
    waiting: int = 0
    cells: int = 0
    cells_used: int = 0
    gateway_rss: int = 0
    workers_rss: int = 0


class _Step:
    """What has been counted since the last sample of one ring."""

    def __init__(self, begun: float, tokens: int) -> None:
        self.begun, self.tokens = begun, tokens
        self.local = self.online = self.failed = self.refused = 0
        self.first: deque[float] = deque(maxlen=MOST_TIMES)
        self.total: deque[float] = deque(maxlen=MOST_TIMES)

    def sample(self, now: float, wall: float, gauges: Gauges) -> Sample:
        seconds = max(1e-9, now - self.begun)
        first, total = sorted(self.first), sorted(self.total)
        standing = msgspec.structs.asdict(gauges)
        tokens = standing.pop("tokens")
        return Sample(
            time=wall,
            seconds=seconds,
            answers=self.local + self.online,
            local=self.local,
            online=self.online,
            failed=self.failed,
            refused=self.refused,
            tokens_per_second=max(0, tokens - self.tokens) / seconds,
            first_token_p50=_quantile(first, 0.5),
            first_token_p99=_quantile(first, 0.99),
            latency_p50=_quantile(total, 0.5),
            latency_p99=_quantile(total, 0.99),
            **standing,
        )


class Recorder:
    """`clock` must not be set back; `wall` is what people read."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time
    ) -> None:
        self._clock, self._wall = clock, wall
        self._fine: deque[Sample] = deque(maxlen=FINE_SAMPLES)
        self._coarse: deque[Sample] = deque(maxlen=COARSE_SAMPLES)
        self._steps = [_Step(clock(), 0), _Step(clock(), 0)]
        self._online_tokens = 0

    def note_answer(self, route: Route, usage: Usage, timings: Timings) -> None:
        first = timings.queued + timings.prefill
        for step in self._steps:
            if route.is_local:
                step.local += 1
            else:
                step.online += 1
            step.first.append(first)
            step.total.append(first + timings.decode)
        if not route.is_local:
            self._online_tokens += usage.completion_tokens

    def note_status(self, status: int) -> None:
        """Of an answered HTTP request."""
        if status >= 500 or status == 429:
            for step in self._steps:
                if status in (429, 503, 507):
                    step.refused += 1
                else:
                    step.failed += 1

    def take(self, gauges: Gauges) -> None:
        """A sample of now; a coarse one too when its time has come. `gauges.tokens` are the local ones."""
        now, wall = self._clock(), self._wall()
        gauges = msgspec.structs.replace(gauges, tokens=gauges.tokens + self._online_tokens)
        fine, coarse = self._steps
        self._fine.append(fine.sample(now, wall, gauges))
        self._steps[0] = _Step(now, gauges.tokens)
        if now - coarse.begun >= COARSE_STEP - FINE_STEP / 2:
            self._coarse.append(coarse.sample(now, wall, gauges))
            self._steps[1] = _Step(now, gauges.tokens)

    def history(self, seconds: float) -> History:
        """The samples of the last so many seconds: fine ones where they reach back far enough."""
        is_fine = seconds <= FINE_STEP * FINE_SAMPLES
        step = FINE_STEP if is_fine else COARSE_STEP
        count = max(1, round(seconds / step))
        kept: Sequence[Sample] = self._fine if is_fine else self._coarse
        return History(step=step, data=tuple(kept)[-count:])


def _quantile(ordered: list[float], share: float) -> float | None:
    """The nearest-rank quantile of values in order."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None
