"""What the models are doing now: each request that is with one, how far it is, and the way to end it.

Kept by whoever hands a request to a model; read by operators. One `Activities` per server, owned by the event
loop. It knows neither models nor HTTP: it holds names, numbers and a callback.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Literal

Phase = Literal["loading", "queued", "running"]
Kind = Literal["generate", "embed", "rerank", "tokenize"]

RATE_SECONDS = 10  # a speed is the mean of so many whole seconds
RECENT_FIRST_TOKENS = 512

request_id: ContextVar[str] = ContextVar("request_id", default="")  # the HTTP request that is being answered


@dataclass
class Activity:
    """One request for a model. `loading`: its model is not ready; `queued`: it has no slot yet."""

    id: str
    request: str
    kind: Kind
    model: str
    phase: Phase = "loading"
    started_at: float = field(default_factory=time.time)
    prompt_tokens: int = 0
    cached_tokens: int = 0
    tokens: int = 0  # of the answer, so far
    is_cancelled: bool = False
    end: Callable[[], None] | None = None  # ends what the request waits for now

    def cancel(self) -> None:
        """The request ends with Cancelled as soon as its owner runs."""
        self.is_cancelled = True
        if self.end is not None:
            self.end()


@dataclass(frozen=True)
class Speed:
    """A model's last seconds. Times in seconds; None where nothing was measured yet."""

    tokens_per_second: float
    first_token_p50: float | None
    first_token_p99: float | None
    answers: int  # that the percentiles are of


class _Figures:
    """Tokens by second, and the latest first-token times, of one model."""

    def __init__(self) -> None:
        self._seconds: deque[tuple[int, int]] = deque(maxlen=RATE_SECONDS + 1)  # second → tokens
        self._first_tokens: deque[float] = deque(maxlen=RECENT_FIRST_TOKENS)

    def add_tokens(self, count: int, now: float) -> None:
        second = int(now)
        if self._seconds and self._seconds[-1][0] == second:
            count += self._seconds.pop()[1]
        self._seconds.append((second, count))

    def add_first_token(self, seconds: float) -> None:
        self._first_tokens.append(seconds)

    def speed(self, now: float) -> Speed:
        current = int(now)
        recent = sum(n for second, n in self._seconds if current - RATE_SECONDS <= second < current)
        ordered = sorted(self._first_tokens)
        return Speed(recent / RATE_SECONDS, _quantile(ordered, 0.5), _quantile(ordered, 0.99), len(ordered))


class Activities:
    """Every request under way, and each model's latest speed."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ids = itertools.count(1)
        self._under_way: dict[str, Activity] = {}
        self._figures: dict[str, _Figures] = {}
        self.tokens = 0  # of all answers since the start

    @contextlib.contextmanager
    def begin(self, kind: Kind, model: str) -> Iterator[Activity]:
        """The activity, listed until the block ends."""
        activity = Activity(f"act-{next(self._ids)}", request_id.get(), kind, model)
        self._under_way[activity.id] = activity
        try:
            yield activity
        finally:
            del self._under_way[activity.id]

    def under_way(self) -> tuple[Activity, ...]:
        """Oldest first."""
        return tuple(self._under_way.values())

    def cancel(self, id: str) -> int:
        """End the activity `id`, or all those of the HTTP request `id`; how many there were."""
        found = [each for each in self._under_way.values() if id and id in (each.id, each.request)]
        for activity in found:
            activity.cancel()
        return len(found)

    def count_tokens(self, activity: Activity, count: int) -> None:
        activity.tokens += count
        self.tokens += count
        self._of(activity.model).add_tokens(count, self._clock())

    def count_first_token(self, model: str, seconds: float) -> None:
        self._of(model).add_first_token(seconds)

    def speed(self, model: str) -> Speed:
        return self._figures.get(model, _Figures()).speed(self._clock())

    def _of(self, model: str) -> _Figures:
        return self._figures.setdefault(model, _Figures())


def _quantile(ordered: list[float], share: float) -> float | None:
    """The nearest-rank quantile of values in order."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None
