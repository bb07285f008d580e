"""The cell ledger against a plain list of who holds what."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.llm.ledger import CellLedger, Cells

OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["take", "share", "release", "split"]), st.integers(0, 99), st.integers(0, 12)),
    max_size=60,
)


@given(OPERATIONS)
def test_every_cell_is_counted_once_however_many_hold_it(operations: list[tuple[str, int, int]]) -> None:
    ledger = CellLedger(40)
    holdings: list[Cells] = []
    for name, which, count in operations:
        if name == "take" and count <= ledger.free:
            holdings.append(ledger.take(count))
        elif holdings and name == "share":
            holdings.append(ledger.share(holdings[which % len(holdings)][:count]))
        elif holdings and name == "release":
            ledger.release(holdings.pop(which % len(holdings)))
        elif holdings and name == "split":
            held = holdings.pop(which % len(holdings))
            ledger.release(held[count:])
            holdings.append(held[:count])
        distinct = {int(cell) for cells in holdings for cell in cells}
        assert ledger.used == len(distinct) == ledger.distinct(holdings)
        assert ledger.free == 40 - len(distinct)
        ledger.check(holdings)


def test_more_cells_than_are_free_cannot_be_taken() -> None:
    ledger = CellLedger(4)
    ledger.take(3)
    with pytest.raises(AssertionError, match="2 cells asked of 1"):
        ledger.take(2)


def test_check_finds_a_leak_and_a_double_release() -> None:
    ledger = CellLedger(8)
    held = ledger.take(3)
    with pytest.raises(AssertionError):
        ledger.check([])
    ledger.release(held)
    with pytest.raises(AssertionError):
        ledger.check([held])
    ledger.check([])
