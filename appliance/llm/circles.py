"""Whether a text goes in circles: its end is one passage said again and again. Pure.

A small model under a constraint may never leave a JSON string, and greedy sampling then never ends. Short
passages must be repeated longer: a table of equal numbers is no circle.
"""

from __future__ import annotations

from collections.abc import Iterable

LONGEST_PASSAGE = 64  # tokens
SHORT_PASSAGE = 4
REPEATED = 160  # tokens that are nothing but repetition
REPEATED_SHORT = 512
TIMES = 4
LOOK_EVERY = 16  # tokens; a look costs some microseconds


class Circles:
    """Watches one growing text."""

    def __init__(self) -> None:
        self._tail: list[int] = []
        self._until_look = LOOK_EVERY

    def add(self, tokens: Iterable[int]) -> bool:
        """Whether the text, with these tokens behind it, goes in circles."""
        before = len(self._tail)
        self._tail += tokens
        self._until_look -= len(self._tail) - before
        if self._until_look > 0:
            return False
        self._until_look = LOOK_EVERY
        del self._tail[: -(REPEATED_SHORT + LONGEST_PASSAGE)]
        for length in range(1, LONGEST_PASSAGE + 1):  # the shortest: what repeats 2 repeats 4 as well
            if self._repeats(length, max(REPEATED, TIMES * length)):
                return length >= SHORT_PASSAGE or self._repeats(length, REPEATED_SHORT)
        return False

    def _repeats(self, length: int, least: int) -> bool:
        tail = self._tail
        if len(tail) < least + length or tail[-1] != tail[-1 - length]:
            return False
        return tail[-least:] == tail[-least - length : -length]
