"""The last minutes of a server's status, for plots and sparklines. Pure: it is told, it does not ask."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from appliance import admin
from appliance.admin import ServerStatus

SECONDS = 600
SPACING = 0.5  # seconds between samples at least: a plot shows no more, and drawing one is dear


@dataclass(frozen=True)
class Sample:
    """`at`: seconds since the epoch. Times in seconds, sizes in bytes; None: nobody knows. `memory`: what the
    gateway and its workers hold.
    """

    at: float
    tokens_per_second: float
    first_token_p50: float | None
    first_token_p99: float | None
    running: int
    waiting: int
    memory: int


class History:
    """At most SECONDS of samples, SPACING apart or more, oldest first."""

    def __init__(self) -> None:
        self._samples: deque[Sample] = deque()

    def add(self, sample: Sample) -> None:
        if self._samples and 0 <= sample.at - self._samples[-1].at < SPACING:
            return
        self._samples.append(sample)
        while self._samples[0].at < sample.at - SECONDS:
            self._samples.popleft()

    def fill(self, past: Iterable[Sample], step: float) -> None:
        """Puts in what the server remembers where nothing was seen within `step` seconds."""
        seen = sorted(each.at for each in self._samples)
        missing = [each for each in past if not _is_near(seen, each.at, step)]
        self._samples = deque(sorted([*self._samples, *missing], key=lambda each: each.at))
        while self._samples and self._samples[0].at < self._samples[-1].at - SECONDS:
            self._samples.popleft()

    @property
    def samples(self) -> tuple[Sample, ...]:
        return tuple(self._samples)

    def series(self, value: Callable[[Sample], float | None]) -> list[tuple[float, float]]:
        """(at, value) where there is one."""
        return [(each.at, found) for each in self._samples if (found := value(each)) is not None]


def sample_of(status: ServerStatus) -> Sample:
    """A status as a sample; first tokens are those of the model that has answered most."""
    busiest = max(status.speeds, key=lambda speed: speed.answers, default=None)
    workers = sum(worker.memory_rss or 0 for worker in status.workers)
    return Sample(
        at=status.started_at + status.uptime,
        tokens_per_second=status.tokens_per_second,
        first_token_p50=busiest.first_token_p50 if busiest else None,
        first_token_p99=busiest.first_token_p99 if busiest else None,
        running=status.running,
        waiting=status.waiting,
        memory=workers + status.memory.gateway_rss,
    )


def remembered(sample: admin.Sample) -> Sample:
    """A sample that the server took itself."""
    return Sample(
        at=sample.time,
        tokens_per_second=sample.tokens_per_second,
        first_token_p50=sample.first_token_p50,
        first_token_p99=sample.first_token_p99,
        running=sample.running,
        waiting=sample.waiting,
        memory=sample.gateway_rss + sample.workers_rss,
    )


def _is_near(ordered: list[float], at: float, within: float) -> bool:
    place = bisect_left(ordered, at)
    return any(abs(each - at) <= within for each in ordered[max(0, place - 1) : place + 1])
