"""Prompt-lookup drafting: what followed the last few tokens before may follow them again.

Answers that quote their context, rewrite a file or fill in a form repeat long runs of it. A draft costs a few
more rows in the next batch; every drafted token that the model confirms saves a step of its own. Pure.

Source of the idea: Saxena, "Prompt Lookup Decoding", 2023.
"""

from __future__ import annotations

from collections.abc import Sequence

LONGEST_KEY, SHORTEST_KEY = 4, 3
# A row more costs a processor up to 0.7 of a step of one row, so a draft must be right nearly always to
# pay: it begins with one token, doubles while all of it is confirmed, and shrinks to what was.
FIRST_DRAFT, LONGEST_DRAFT = 1, 16
SHORTEST_PAUSE, LONGEST_PAUSE = 16, 256  # tokens without drafts after one that was all wrong; doubles


class PromptLookup:
    """The drafter of one sequence: an index of where each short run of tokens stood last."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self._places: dict[tuple[int, ...], int] = {}
        self._indexed = 0
        self._length = FIRST_DRAFT
        self._pause, self._next_pause = 0, SHORTEST_PAUSE
        self._index(tokens)

    def propose(self, tokens: Sequence[int], at_most: int) -> list[int]:
        """Up to `at_most` tokens that may come next; empty when nothing is known or drafting does not pay."""
        self._index(tokens)
        if self._pause > 0:
            self._pause -= 1
            return []
        length = min(at_most, self._length)
        for size in range(LONGEST_KEY, SHORTEST_KEY - 1, -1):
            place = self._places.get(tuple(tokens[-size:]))
            if place is not None:
                return list(tokens[place : place + length])
        return []

    def learn(self, drafted: int, confirmed: int) -> None:
        """How the last draft fared."""
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

    def _index(self, tokens: Sequence[int]) -> None:
        """Remember what stands before every token but the last: its own continuation is not known yet."""
        for end in range(max(self._indexed, SHORTEST_KEY), len(tokens)):
            for size in range(SHORTEST_KEY, min(LONGEST_KEY, end) + 1):
                self._places[tuple(tokens[end - size : end])] = end
        self._indexed = max(self._indexed, len(tokens))
