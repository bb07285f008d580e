"""The last minutes of a server's status, for plots and sparklines. Pure: it is told, it does not ask."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from appliance.admin import ServerStatus

SECONDS = 600
SPACING = 0.5  # seconds between samples at least: a plot shows no more, and drawing one is dear


@dataclass(frozen=True)
class Sample:
    """`at`: seconds since the epoch. Times in seconds, sizes in bytes; None: nobody knows."""

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

    def clear(self) -> None:
        self._samples.clear()

    @property
    def samples(self) -> tuple[Sample, ...]:
        return tuple(self._samples)

    def series(self, value: Callable[[Sample], float | None]) -> list[tuple[float, float]]:
        """(at, value) where there is one."""
        return [(each.at, found) for each in self._samples if (found := value(each)) is not None]


def sample_of(status: ServerStatus) -> Sample:
    """A status as a sample; first tokens are those of the model that has answered most."""
    busiest = max(status.speeds, key=lambda speed: speed.answers, default=None)
    workers = sum(worker.memory_pss or worker.memory_rss or 0 for worker in status.workers)
    return Sample(
        at=status.started_at + status.uptime,
        tokens_per_second=status.tokens_per_second,
        first_token_p50=busiest.first_token_p50 if busiest else None,
        first_token_p99=busiest.first_token_p99 if busiest else None,
        running=status.running,
        waiting=status.waiting,
        memory=workers + (status.memory.gateway_pss or status.memory.gateway_rss),
    )
