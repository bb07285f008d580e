"""Prompt-lookup drafting: what followed the last few tokens before may follow them again.

Answers that quote their context, rewrite a file or fill in a form repeat long runs of it. A draft costs a few
more rows in the next batch; every drafted token that the model confirms saves a step of its own. Pure.

Source of the idea: Saxena, "Prompt Lookup Decoding", 2023.
"""

from __future__ import annotations

from collections.abc import Sequence

LONGEST_KEY, SHORTEST_KEY = 4, 2
LONGEST_DRAFT = 8
# A step of 1 + n rows costs more than a step of one; a draft that is confirmed this rarely is not worth it.
WORTHWHILE = 0.35
MEMORY = 0.85  # weight of the past in the running rate of confirmation
PAUSE = 24  # tokens without drafts after a bad run, before trying again


class PromptLookup:
    """The drafter of one sequence: an index of where each short run of tokens stood last."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self._places: dict[tuple[int, ...], int] = {}
        self._indexed = 0
        self._rate = 1.0
        self._pause = 0
        self._index(tokens)

    def propose(self, tokens: Sequence[int], at_most: int) -> list[int]:
        """Up to `at_most` tokens that may come next; empty when nothing is known or drafting does not pay."""
        self._index(tokens)
        if self._pause > 0:
            self._pause -= 1
            return []
        length = min(at_most, LONGEST_DRAFT if self._rate > 2 * WORTHWHILE else LONGEST_DRAFT // 2)
        for size in range(LONGEST_KEY, SHORTEST_KEY - 1, -1):
            place = self._places.get(tuple(tokens[-size:]))
            if place is not None:
                return list(tokens[place : place + length])
        return []

    def learn(self, drafted: int, confirmed: int) -> None:
        """How the last draft fared."""
        if drafted == 0:
            return
        self._rate = MEMORY * self._rate + (1 - MEMORY) * confirmed / drafted
        if self._rate < WORTHWHILE:
            self._rate, self._pause = WORTHWHILE, PAUSE

    def _index(self, tokens: Sequence[int]) -> None:
        """Remember what stands before every token but the last: its own continuation is not known yet."""
        for end in range(max(self._indexed, SHORTEST_KEY), len(tokens)):
            for size in range(SHORTEST_KEY, min(LONGEST_KEY, end) + 1):
                self._places[tuple(tokens[end - size : end])] = end
        self._indexed = max(self._indexed, len(tokens))
