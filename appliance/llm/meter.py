"""What rendering a stranger's template may use up: time, loop rounds, characters built."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from jinja2.utils import Namespace

MAX_BUILT_CHARS = 32 * 1024 * 1024
MAX_ROUNDS = 200_000
REFERENCE = 8  # bytes that one element of a list costs, counted as characters


class LimitReached(Exception):
    """A template went over one of its limits; the message goes on from "the template"."""


class Meter:
    """What one rendering may use up. Every method raises LimitReached."""

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._seconds, self._clock = seconds, clock
        self.begin()

    def begin(self) -> None:
        self._ends_at = self._clock() + self._seconds
        self._rounds = self._built = 0
        self._weights: dict[int, tuple[object, int]] = {}  # keeps the object, so that its id stays its own

    def tick(self, rounds: int = 1) -> None:
        self._rounds += rounds
        if self._rounds > MAX_ROUNDS:
            raise LimitReached(f"takes more than {MAX_ROUNDS} loop rounds")
        if self._clock() > self._ends_at:
            raise LimitReached(f"takes longer than {self._seconds:g} s")

    def reserve(self, size: int) -> None:
        """Is there room for `size` more characters?"""
        if self._built + size > MAX_BUILT_CHARS:
            raise LimitReached(f"builds more than {MAX_BUILT_CHARS} characters")

    def build(self, size: int) -> None:
        """`size` characters have been built."""
        self.reserve(size)
        self._built += size
        self.tick(0)

    def weigh(self, value: Any) -> int:
        """About the characters of `value` written out: what it holds twice counts twice.

        Lists that hold themselves many times over are small in memory but endless to print or compare.
        """
        if isinstance(value, str):
            return len(value)
        if isinstance(value, Namespace):
            raise LimitReached("puts a namespace where a value belongs")
        if not isinstance(value, (list, tuple, dict)):
            return REFERENCE
        known = self._weights.get(id(value))
        if known is None:
            if len(value) > MAX_ROUNDS:
                raise LimitReached(f"makes a list of {len(value)} elements")
            parts: Iterable[Any] = value
            if isinstance(value, dict):
                parts = (part for pair in value.items() for part in pair)
            weight = 2 + sum(2 + self.weigh(part) for part in parts)
            if weight > MAX_BUILT_CHARS:
                raise LimitReached(f"makes a value of more than {MAX_BUILT_CHARS} characters")
            known = self._weights[id(value)] = (value, weight)
        return known[1]
