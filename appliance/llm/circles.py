"""Whether a text goes in circles: its end is one passage said again and again. Pure.

A small model under greedy sampling may never find its end: it says a sentence, a list's next item or a whole
quoted page once more, for as long as there is room. Short passages must be repeated longer: a table of equal
numbers is no circle. A list's numbers count up and make no passage new.
"""

from __future__ import annotations

from collections.abc import Iterable

SHORT_PASSAGE = 4  # tokens
LONG_PASSAGE = 64
REPEATED = 160  # tokens that are nothing but repetition
REPEATED_SHORT = 512
REPEATED_LONG = 256
TIMES = 4
TIMES_LONG = 2
RECOGNISED = 8  # tokens after which a passage is taken to be the one that was there before
MARKER = 4  # tokens at a line's beginning among which a list's number stands


class Circles:
    """Watches one growing text, token by token, at a cost that does not depend on its length."""

    def __init__(self) -> None:
        self._tokens: list[int] = []
        self._places: dict[tuple[int, ...], int] = {}  # of each run of RECOGNISED tokens, the last one's end
        self._distance = 0  # back to where the same was said; 0: nowhere
        self._repeated = 0  # tokens that equal those at that distance
        self._numbered = 0  # where a list's number was last left out
        self._in_line = 0

    def read(self, token: int, piece: bytes) -> bool:
        """`add` for free text: a number at a line's beginning is left out."""
        self._in_line += 1
        if self._in_line <= MARKER and piece.strip().isdigit():
            self._numbered = len(self._tokens)
            return False
        if piece.endswith(b"\n"):
            self._in_line = 0
        return self.add((token,))

    def add(self, tokens: Iterable[int]) -> bool:
        """Whether the text, with these tokens behind it, goes in circles."""
        for token in tokens:
            self._follow(token)
        return self._distance > 0 and self._is_circle()

    def _follow(self, token: int) -> None:
        text = self._tokens
        text.append(token)
        passage = tuple(text[-RECOGNISED:])
        if self._distance and text[-1 - self._distance] == token:
            self._repeated += 1
        elif (place := self._places.get(passage)) is not None:
            self._distance, self._repeated = len(text) - place, RECOGNISED
        else:
            self._distance = 0
        self._places[passage] = len(text)

    def _is_circle(self) -> bool:
        length = self._distance
        if length < SHORT_PASSAGE:
            return min(self._repeated, len(self._tokens) - self._numbered) >= REPEATED_SHORT
        if length <= LONG_PASSAGE:
            return self._repeated >= max(REPEATED, TIMES * length)
        return self._repeated >= max(REPEATED_LONG, TIMES_LONG * length)
