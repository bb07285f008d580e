"""Which single characters end a constrained text soonest, and in which order to try them. Pure.

No order is the best for every grammar: a habit remembers where the way out has gone so far, and says what to
try next. What is allowed, the matcher knows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

# Close the string, the object, the list; go on to what must still come; then the shortest values.
FIRST = (b'"', b"}", b"]", b",", b":", b"0", b"n", b"t", b"f", b"1", b"[", b"{", b"-", b".", b"a", b" ")
WEARINESS = 8  # ranks that one use of a character costs it


@dataclass(frozen=True)
class Closer:
    """A token of one character, and its place in the order of the most closing."""

    token: int
    character: bytes
    rank: int


Closers = tuple[Closer, ...]


def closers(by_byte: Mapping[bytes, int]) -> Closers:
    """Those of a vocabulary, which has the tokens `by_byte` of a single byte; the most closing first."""
    others = (bytes([code]) for code in range(0x20, 0x7F) if bytes([code]) not in FIRST)
    return tuple(
        Closer(by_byte[byte], byte, rank) for rank, byte in enumerate((*FIRST, *others)) if byte in by_byte
    )


class Habit(Protocol):
    """`looks_ahead`: a character that ends the text goes before all others. Costs a trial of each."""

    looks_ahead: bool

    def ordered(self, closers: Closers) -> Sequence[Closer]:
        """What to try next, the best first."""
        ...

    def has_gone(self, tokens: list[int]) -> None:
        """The way out goes on with these tokens."""
        ...


class Straight:
    """Always the most closing character."""

    looks_ahead = False

    def ordered(self, closers: Closers) -> Sequence[Closer]:
        return closers

    def has_gone(self, tokens: list[int]) -> None:
        """Nothing changes."""


class Leaving:
    """Behind a letter or digit anything but another: numbers and words of any length are left at once."""

    looks_ahead = False

    def __init__(self) -> None:
        self._last: int | None = None

    def ordered(self, closers: Closers) -> Sequence[Closer]:
        last = next((each.character for each in closers if each.token == self._last), b"")
        return sorted(closers, key=lambda each: each.character.isalnum()) if last.isalnum() else closers

    def has_gone(self, tokens: list[int]) -> None:
        self._last = tokens[-1]


class Weary:
    """The most closing of the characters that were used least."""

    looks_ahead = True

    def __init__(self) -> None:
        self._used: Counter[int] = Counter()

    def ordered(self, closers: Closers) -> Sequence[Closer]:
        return sorted(closers, key=lambda each: each.rank + WEARINESS * self._used[each.token])

    def has_gone(self, tokens: list[int]) -> None:
        self._used.update(tokens)
