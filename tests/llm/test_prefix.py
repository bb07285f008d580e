"""Common beginnings, against the obvious way of finding them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from appliance.llm.prefix import Holder, best_match, common_length

TOKENS = st.lists(st.integers(0, 2), max_size=120)


def plainly(left: list[int], right: list[int]) -> int:
    differing = (i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b)
    return next(differing, min(len(left), len(right)))


@given(TOKENS, TOKENS, TOKENS)
def test_common_length_is_the_length_of_the_common_prefix(
    shared: list[int], a: list[int], b: list[int]
) -> None:
    left, right = shared + a, shared + b
    assert common_length(left, right) == common_length(right, left) == plainly(left, right)


def test_common_length_at_every_edge() -> None:
    whole = list(range(300))
    for length in range(300):
        other = [*whole[:length], -1, *whole[length + 1 :]]
        assert common_length(whole, other) == length
        assert common_length(whole, whole[:length]) == length
    assert common_length(whole, whole) == 300


@given(
    st.lists(st.integers(0, 2), min_size=1, max_size=30),
    st.lists(st.tuples(st.lists(st.integers(0, 2), min_size=1, max_size=30), st.integers(0, 30)), max_size=6),
)
def test_the_best_match_is_the_longest_valid_one(
    tokens: list[int], held: list[tuple[list[int], int]]
) -> None:
    holders = [Holder(i, h, min(valid, len(h))) for i, (h, valid) in enumerate(held)]
    lengths = [min(plainly(tokens, h.tokens), h.valid) for h in holders]
    match = best_match(tokens, holders)
    if max(lengths, default=0) == 0:
        assert match is None
    else:
        assert match is not None
        assert match.length == max(lengths) == lengths[match.holder]
