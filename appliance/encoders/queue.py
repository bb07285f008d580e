"""Which rows are computed next: a pure planner of batches, without thread, clock, text or model.

A request is an id, the lane it runs in (its model) and the lengths of its rows. The planner hands out batches
of one lane; the owner computes them and settles them.

- A batch costs its padded size: rows x longest row. It stays within `batch_tokens`, unless a single row is
  longer by itself.
- Requests take turns in starting a batch, so a query waits for one batch of each request before it, never for
  all of a large one. The request whose turn it is brings its longest row; rows of about that length, of all
  requests in its lane, fill the batch.
- Waiting requests and waiting tokens are bounded: what does not fit is refused at once.

Memory is proportional to the waiting rows. Not safe for use by several threads.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import chain

from appliance.errors import Overloaded, PayloadTooLarge

# A row joins a batch when it differs from the starting row by this share of its length or by this many
# tokens.
JOIN_PADDING_SHARE = 0.25
JOIN_PADDING_TOKENS = 16

FIRST_TOKENS_PER_SECOND = 1000.0
LONGEST_RETRY_SECONDS = 60.0


@dataclass(frozen=True)
class Place:
    """A row's place: the `index`-th row of `request`, `length` tokens long."""

    request: int
    index: int
    length: int


@dataclass(frozen=True)
class Batch:
    lane: str
    places: tuple[Place, ...]

    @property
    def padded_tokens(self) -> int:
        return len(self.places) * max(place.length for place in self.places)


class _Request:
    """A request's rows that are in no batch yet, shortest first."""

    def __init__(self, id: int, lane: str, lengths: Sequence[int]) -> None:
        self.id, self.lane = id, lane
        self.unsettled = len(lengths)
        self.waiting = sorted((Place(id, index, length) for index, length in enumerate(lengths)), key=_rank)

    def between(self, shortest: int, longest: int) -> list[Place]:
        """The waiting rows between the two lengths, both included."""
        begin = bisect_left(self.waiting, shortest, key=_length)
        return self.waiting[begin : bisect_right(self.waiting, longest, key=_length)]

    def remove(self, place: Place) -> None:
        del self.waiting[bisect_left(self.waiting, _rank(place), key=_rank)]


def _length(place: Place) -> int:
    return place.length


def _rank(place: Place) -> tuple[int, int]:
    """Orders a request's rows by length, and equal ones so that the first is taken first from the end."""
    return place.length, -place.index


class BatchQueue:
    """All requests that are not over yet, in the order of their turns."""

    def __init__(self, *, batch_tokens: int, requests: int, tokens: int) -> None:
        """`requests` and `tokens` bound what may wait."""
        self._batch_tokens, self._max_requests, self._max_tokens = batch_tokens, requests, tokens
        self._requests: dict[int, _Request] = {}
        self._turns: deque[_Request] = deque()  # those with waiting rows
        self._last: _Request | None = None  # who started the last batch
        self._rate = FIRST_TOKENS_PER_SECOND
        self.waiting_tokens = 0

    @property
    def requests(self) -> int:
        return len(self._requests)

    @property
    def waiting_rows(self) -> int:
        return sum(len(request.waiting) for request in self._turns)

    def check_room(self) -> None:
        """Raises Overloaded when no further request may wait."""
        if len(self._requests) >= self._max_requests:
            raise Overloaded(
                f"{len(self._requests)} requests wait for the encoder, as many as may; try again later",
                retry_after=self._seconds_until_empty(),
            )

    def admit(self, request: int, lane: str, lengths: Sequence[int]) -> None:
        """Line up a request with at least one row.

        Raises Overloaded when the queue is full, PayloadTooLarge when the request would not fit an empty one.
        """
        if request in self._requests or not lengths:
            raise ValueError(f"request {request} is already here, or has no rows")
        self.check_room()
        total = sum(lengths)
        if total > self._max_tokens:
            raise PayloadTooLarge(
                f"the request has {total} tokens in all; the encoder takes at most {self._max_tokens}"
                " at once: send fewer texts in one request"
            )
        if self.waiting_tokens + total > self._max_tokens:
            raise Overloaded(
                f"{self.waiting_tokens} tokens are waiting for the encoder and {total} more would be over its"
                f" limit of {self._max_tokens}; try again later",
                retry_after=self._seconds_until_empty(),
            )
        entry = _Request(request, lane, lengths)
        self._requests[request] = entry
        self._turns.append(entry)
        self.waiting_tokens += total

    def cancel(self, request: int) -> bool:
        """Forget a request, whatever its state; False when it is not here. A batch under way may still carry
        its rows: settling ignores them."""
        entry = self._requests.pop(request, None)
        if entry is None:
            return False
        if entry.waiting:
            self._turns.remove(entry)
            self.waiting_tokens -= sum(place.length for place in entry.waiting)
        return True

    def next_batch(self) -> Batch | None:
        """Take the rows to compute next, longest first; None when none is waiting."""
        if not self._turns:
            return None
        if self._turns[0] is self._last:
            self._turns.rotate(-1)  # only now, so that requests which came meanwhile go first
        starter = self._last = self._turns[0]
        places = [starter.waiting.pop()]
        self._fill(places, starter)
        self.waiting_tokens -= sum(place.length for place in places)
        self._turns = deque(request for request in self._turns if request.waiting)
        places.sort(key=lambda place: -place.length)
        return Batch(starter.lane, tuple(places))

    def settle(self, batch: Batch) -> tuple[int, ...]:
        """The batch's results are in: which requests are now complete, and thereby forgotten."""
        complete = []
        for place in batch.places:
            entry = self._requests.get(place.request)
            if entry is None:
                continue
            entry.unsettled -= 1
            if entry.unsettled == 0:
                del self._requests[entry.id]
                complete.append(entry.id)
        return tuple(complete)

    def observe(self, padded_tokens: int, seconds: float) -> None:
        """Learn the speed of computing, for the advice when to try again."""
        if seconds > 0:
            self._rate += 0.2 * (padded_tokens / seconds - self._rate)

    def _fill(self, places: list[Place], starter: _Request) -> None:
        """Add rows about as long as the one in `places`, nearest first: shorter ones, which cost it no
        padding, then longer ones. Of equal rows those of the next in turn come first."""
        row_length = places[0].length
        slack = max(int(row_length * JOIN_PADDING_SHARE), JOIN_PADDING_TOKENS)
        mates = {request.id: request for request in self._turns if request.lane == starter.lane}
        shorter = (reversed(mate.between(row_length - slack, row_length)) for mate in mates.values())
        longer = (mate.between(row_length + 1, row_length + slack) for mate in mates.values())
        candidates = chain(merge(*shorter, key=_length, reverse=True), merge(*longer, key=_length))
        for place in candidates:
            row_length = max(row_length, place.length)
            if (len(places) + 1) * row_length > self._batch_tokens:
                break
            places.append(place)
        for place in places[1:]:
            mates[place.request].remove(place)

    def _seconds_until_empty(self) -> float:
        return min(max(1.0, self.waiting_tokens / self._rate), LONGEST_RETRY_SECONDS)
