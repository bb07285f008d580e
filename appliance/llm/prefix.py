"""Which cache sequences hold the beginning of a prompt, running and finished ones alike.

Pure: token lists in, holder and length out. Who evicts, and when, is the scheduler's decision; this index
answers "who has the most of these tokens".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Holder(NamedTuple):
    """A cache sequence whose first `valid` tokens are in the cache."""

    sequence: int
    tokens: Sequence[int]
    valid: int


class Match(NamedTuple):
    holder: int  # cache sequence
    length: int  # tokens in common, from the first


def common_length(left: Sequence[int], right: Sequence[int]) -> int:
    """Length of the common beginning. Slices compare at C speed, so this bisects over them."""
    low, high = 0, min(len(left), len(right))
    if left[:high] == right[:high]:
        return high
    while low + 1 < high:
        middle = (low + high) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle
    return low


def best_match(tokens: Sequence[int], holders: Iterable[Holder]) -> Match | None:
    """The holder with the longest common beginning with `tokens`, if any has one."""
    best: Match | None = None
    for holder in holders:
        if not holder.valid or holder.tokens[0] != tokens[0]:
            continue
        length = min(common_length(tokens, holder.tokens), holder.valid)
        if best is None or length > best.length:
            best = Match(holder.sequence, length)
    return best
