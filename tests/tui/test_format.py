"""Sizes, times and widths as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tui import format


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, "–"),
        (0, "0 B"),
        (1023, "1,023 B"),
        (34 * 1024, "34 KiB"),
        (5 * format.MIB, "5.0 MiB"),
        (655 * format.MIB, "655 MiB"),
        (3 * format.GIB // 2, "1.5 GiB"),
    ],
)
def test_sizes(count: int | None, text: str) -> None:
    assert format.size(count) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0.085, "85 ms"),
        (1.42, "1.4 s"),
        (42, "42 s"),
        (180, "3 min"),
        (7200, "2 h"),
        (172800, "2 d"),
    ],
)
def test_times(value: float | None, text: str) -> None:
    assert format.seconds(value) == text


@given(st.text(alphabet="ab模型データ…é", max_size=30), st.integers(0, 20))
def test_text_takes_exactly_the_cells_it_is_given(text: str, cells: int) -> None:
    assert cell_len(format.fit(text, cells)) == cells
    assert cell_len(format.shorten(text, cells)) <= max(cells, 0)
