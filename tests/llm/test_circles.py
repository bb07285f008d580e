"""What is one passage said again and again is noticed; what only looks a little like it is not."""

from __future__ import annotations

import random

import pytest

from appliance.llm.circles import LONG_PASSAGE, REPEATED, REPEATED_LONG, REPEATED_SHORT, Circles


def noticed_after(tokens: list[int], piece: int = 1) -> int | None:
    circles = Circles()
    for place in range(0, len(tokens), piece):
        if circles.add(tokens[place : place + piece]):
            return place + piece
    return None


@pytest.mark.parametrize("length", [4, 5, 17, LONG_PASSAGE])
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


@pytest.mark.parametrize("length", [65, 100, 400])
def test_a_long_passage_is_noticed_when_it_was_said_three_times(length: int) -> None:
    found = noticed_after(list(range(5000, 5050)) + list(range(length)) * 20)
    assert found == 50 + length + max(REPEATED_LONG, 2 * length)


def read(lines: list[bytes]) -> int | None:
    """How many lines are read until a circle is noticed; a token is a character, as in small vocabularies."""
    circles = Circles()
    for count, line in enumerate(lines, 1):
        for byte in line:
            if circles.read(byte, bytes([byte])):
                return count
    return None


def test_a_list_that_counts_up_and_says_one_thing_is_a_circle() -> None:
    found = read([b"%d. **Read.** What is written.\n" % number for number in range(1, 300)])
    assert found is not None
    assert 5 <= found <= 12


@pytest.mark.parametrize(
    "line", [b"%d\n", b"2026-11-%d,12.5,ok,%d\n", b"%d. Item %d of the list is its own.\n", b"row %d\n"]
)
def test_counting_and_tables_are_no_circles(line: bytes) -> None:
    count = line.count(b"%d")
    assert read([line % ((number,) * count) for number in range(10, 1000)]) is None


def test_other_texts_go_on() -> None:
    source = random.Random(1)
    rows = [token for row in range(500) for token in (1, 2, 3, 1000 + row, 4, 5)]
    assert noticed_after([source.randrange(5) for _ in range(5000)]) is None
    assert noticed_after(rows) is None
