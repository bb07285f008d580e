"""Answers given from a base, to be given again while nothing in it has changed. Off unless it is set.

In memory only, bounded, and never older than the time to live.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Generic, TypeVar

Answer = TypeVar("Answer")

ENTRIES = 1000


class AnswerCache(Generic[Answer]):
    """By edition, generation and all that was asked; a change of the base makes its entries unreachable."""

    def __init__(self, seconds: float, entries: int = ENTRIES) -> None:
        self._seconds, self._entries = seconds, entries
        self._kept: OrderedDict[tuple[int, int, bytes], tuple[float, Answer]] = OrderedDict()

    @property
    def is_on(self) -> bool:
        return self._seconds > 0

    def get(self, edition: int, generation: int, asked: bytes) -> Answer | None:
        key = (edition, generation, asked)
        kept = self._kept.get(key)
        if kept is None:
            return None
        if time.monotonic() - kept[0] > self._seconds:
            del self._kept[key]
            return None
        return kept[1]

    def put(self, edition: int, generation: int, asked: bytes, answer: Answer) -> None:
        if self.is_on:
            self._kept[edition, generation, asked] = (time.monotonic(), answer)
            while len(self._kept) > self._entries:
                self._kept.popitem(last=False)
