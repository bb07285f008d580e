"""Drafting: guesses at a sequence's next tokens, which the model checks along with the last known one.

A draft costs a few more rows in the next batch; every drafted token that the model confirms saves a step of
its own. What a drafter is, how far ahead one should guess, and the drafter that needs no model: what followed
the last few tokens before may follow them again. Answers that quote their context, rewrite a file or fill in
a form repeat long runs of it. Pure.

Source of that idea: Saxena, "Prompt Lookup Decoding", 2023.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

LONGEST_KEY, SHORTEST_KEY = 4, 3
# A row more costs a processor up to 0.7 of a step of one row, so a draft must be right nearly always to
# pay: it begins with one token, doubles while all of it is confirmed, and shrinks to what was.
FIRST_DRAFT, LONGEST_DRAFT = 1, 16
SHORTEST_PAUSE, LONGEST_PAUSE = 16, 256  # tokens without drafts after one that was all wrong; doubles
# Rows of a step, drafts included. Up to here a row more is cheap beside what a step costs at all; behind it
# a step only gets longer, and so do everybody's gaps.
MOST_ROWS = 24


class Drafter(Protocol):
    """Guesses for one sequence, whose owner closes it."""

    def propose(self, tokens: Sequence[int], at_most: int) -> list[int]:
        """Up to `at_most` tokens that may follow all of the sequence's `tokens`; empty when nothing is
        known or drafting does not pay."""
        ...

    def learn(self, drafted: int, confirmed: int) -> None:
        """How the last draft fared."""
        ...

    def close(self) -> None: ...


StartDrafter = Callable[[Sequence[int]], Drafter]  # of a sequence with these tokens


class Pace:
    """How far ahead guessing has paid of late."""

    def __init__(self) -> None:
        self._length = FIRST_DRAFT
        self._pause, self._next_pause = 0, SHORTEST_PAUSE

    def allow(self, at_most: int) -> int:
        """Tokens that the next draft may have; asked once for each, because pauses are counted here."""
        if self._pause > 0:
            self._pause -= 1
            return 0
        return min(at_most, self._length)

    def learn(self, drafted: int, confirmed: int) -> None:
        if drafted == 0:
            return
        if confirmed == drafted:
            self._length = min(LONGEST_DRAFT, 2 * self._length)
            self._next_pause = SHORTEST_PAUSE
        elif confirmed:
            self._length = confirmed
        else:
            self._length = FIRST_DRAFT
            self._pause, self._next_pause = self._next_pause, min(LONGEST_PAUSE, 2 * self._next_pause)


class PromptLookup:
    """A drafter that remembers where each short run of tokens stood last."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self._places: dict[tuple[int, ...], int] = {}
        self._indexed = 0
        self._pace = Pace()
        self._index(tokens)

    def propose(self, tokens: Sequence[int], at_most: int) -> list[int]:
        self._index(tokens)
        if (length := self._pace.allow(at_most)) == 0:
            return []
        for size in range(LONGEST_KEY, SHORTEST_KEY - 1, -1):
            place = self._places.get(tuple(tokens[-size:]))
            if place is not None:
                return _repeated(tokens[place:], length)
        return []

    def learn(self, drafted: int, confirmed: int) -> None:
        self._pace.learn(drafted, confirmed)

    def close(self) -> None:
        self._places.clear()

    def _index(self, tokens: Sequence[int]) -> None:
        """Remember what stands before every token but the last: its own continuation is not known yet."""
        for end in range(max(self._indexed, SHORTEST_KEY), len(tokens)):
            for size in range(SHORTEST_KEY, min(LONGEST_KEY, end) + 1):
                self._places[tuple(tokens[end - size : end])] = end
        self._indexed = max(self._indexed, len(tokens))


def _repeated(run: Sequence[int], length: int) -> list[int]:
    """The first `length` tokens of the run, which begins anew at its end: an answer that has fallen into a
    loop goes on in it."""
    return (list(run) * (1 + length // len(run)))[:length] if len(run) < length else list(run[:length])
