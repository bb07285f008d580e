"""What is one passage said again and again is noticed; what only looks a little like it is not."""

from __future__ import annotations

import random

import pytest

from appliance.llm.circles import LONGEST_PASSAGE, REPEATED, REPEATED_SHORT, Circles


def noticed_after(tokens: list[int], piece: int = 1) -> int | None:
    circles = Circles()
    for place in range(0, len(tokens), piece):
        if circles.add(tokens[place : place + piece]):
            return place + piece
    return None


@pytest.mark.parametrize("length", [4, 5, 17, LONGEST_PASSAGE])
@pytest.mark.parametrize("piece", [1, 7])
def test_a_repeated_passage_is_noticed_soon(length: int, piece: int) -> None:
    start = list(range(1000, 1100))
    found = noticed_after(start + list(range(length)) * 200, piece)
    least = max(REPEATED, 4 * length)
    assert found is not None
    assert least <= found - len(start) <= least + length + 32


def test_a_table_of_equal_numbers_may_be_long() -> None:
    assert noticed_after([7, 8] * (REPEATED_SHORT // 2)) is None
    assert noticed_after([7, 8] * REPEATED_SHORT) is not None


def test_other_texts_go_on() -> None:
    source = random.Random(1)
    rows = [token for row in range(500) for token in (1, 2, 3, 1000 + row, 4, 5)]
    assert noticed_after([source.randrange(5) for _ in range(5000)]) is None
    assert noticed_after(rows) is None
