"""Which cache sequences hold the beginning of a prompt, running and finished ones alike.

Pure: token lists in, holder and length out. Who evicts, and when, is the scheduler's decision; this index
answers "who has the most of these tokens".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

FIRST_STEP = 32  # tokens


class Holder(NamedTuple):
    """A cache sequence whose first `valid` tokens are in the cache."""

    sequence: int
    tokens: Sequence[int]
    valid: int


class Match(NamedTuple):
    holder: int  # cache sequence
    length: int  # tokens in common, from the first


def common_length(left: Sequence[int], right: Sequence[int]) -> int:
    """Length of the common beginning. Slices compare at C speed, so this gallops over them, then bisects."""
    end = min(len(left), len(right))
    low, step = 0, FIRST_STEP
    while low < end and left[low : low + step] == right[low : low + step]:
        low += step
        step *= 2
    if low >= end:
        return end
    high = min(low + step, end)
    while low < high:
        middle = (low + high) // 2
        if left[low : middle + 1] == right[low : middle + 1]:
            low = middle + 1
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
