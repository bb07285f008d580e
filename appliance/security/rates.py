"""How often somebody may ask: requests and tokens a minute, and requests at the same time.

Token buckets that hold a minute's worth and fill evenly. What a request costs in tokens is known when it is
over: it is let in while there is something left, and what it took is owed. Belongs to the event loop;
bounded; knows subjects by their names only.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from appliance.errors import Overloaded
from appliance.principal import Rates

MINUTE = 60.0
MOST_SUBJECTS = 20_000
BUSY_SECONDS = 1.0  # when to come back if too many requests are under way


class RateLimited(Overloaded):
    """One that asks too often; others are not concerned."""

    type, code = "rate_limit_error", "rate_limit_exceeded"


class Left(NamedTuple):
    """Of one kind of limit: how much a minute, how much is left, and in how many seconds it is full again."""

    limit: int
    remaining: int
    reset: float


class _Bucket:
    def __init__(self, limit: int, now: float) -> None:
        self.limit, self.level, self.filled_at = limit, float(limit), now

    def fill(self, limit: int, now: float) -> None:
        if limit != self.limit:  # the settings have changed: what was used stays used
            self.level, self.limit = self.level + limit - self.limit, limit
        grown = max(0.0, now - self.filled_at) * self.limit / MINUTE
        self.level, self.filled_at = min(float(self.limit), self.level + grown), now

    def wait_for(self, amount: float) -> float:
        """Seconds until so much is there."""
        return max(0.0, amount - self.level) * MINUTE / self.limit

    def left(self) -> Left:
        return Left(self.limit, max(0, int(self.level)), self.wait_for(self.limit))


class _Account:
    def __init__(self, rates: Rates, now: float) -> None:
        self.requests = _Bucket(rates.requests_per_minute, now)
        self.tokens = _Bucket(rates.tokens_per_minute, now)
        self.under_way = 0


class RateLimits:
    """`clock` counts seconds and never goes back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._accounts: OrderedDict[str, _Account] = OrderedDict()

    def begin(self, subject: str, rates: Rates) -> None:
        """Count a request in; `end` must follow. Raises RateLimited, and nothing has been counted."""
        account = self._account(subject, rates)
        if rates.concurrent and account.under_way >= rates.concurrent:
            raise RateLimited(
                f"{account.under_way} requests are under way already; {rates.concurrent} may be",
                retry_after=BUSY_SECONDS,
            )
        if rates.requests_per_minute and (wait := account.requests.wait_for(1)):
            raise RateLimited(
                f"more than {rates.requests_per_minute} requests a minute; come back in {wait:.1f} s",
                retry_after=wait,
            )
        if rates.tokens_per_minute and (wait := account.tokens.wait_for(1)):
            raise RateLimited(
                f"more than {rates.tokens_per_minute} tokens a minute; come back in {wait:.1f} s",
                retry_after=wait,
            )
        if rates.requests_per_minute:
            account.requests.level -= 1
        account.under_way += 1

    def end(self, subject: str, tokens: int) -> None:
        """The request is over, and took so many tokens."""
        account = self._accounts[subject]
        account.under_way -= 1
        if account.tokens.limit:
            account.tokens.level -= tokens

    def left(self, subject: str, rates: Rates) -> dict[str, Left]:
        """By `requests` and `tokens`: what is left of those that are limited."""
        account = self._account(subject, rates)
        buckets = {"requests": account.requests, "tokens": account.tokens}
        return {name: bucket.left() for name, bucket in buckets.items() if bucket.limit}

    def _account(self, subject: str, rates: Rates) -> _Account:
        now = self._clock()
        account = self._accounts.get(subject)
        if account is None:
            self._make_room()
            account = self._accounts[subject] = _Account(rates, now)
        self._accounts.move_to_end(subject)
        account.requests.fill(rates.requests_per_minute, now)
        account.tokens.fill(rates.tokens_per_minute, now)
        return account

    def _make_room(self) -> None:
        """The one that was idle longest goes; one with requests under way never does."""
        if len(self._accounts) < MOST_SUBJECTS:
            return
        for subject, account in self._accounts.items():
            if not account.under_way:
                del self._accounts[subject]
                return
