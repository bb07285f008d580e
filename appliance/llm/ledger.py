"""A mirror of who holds which KV cells: every cell counted once, however many sequences share it.

Pure book-keeping: the cells here are numbers of our own, not llama.cpp's, but the counts agree, because the
scheduler records every computation, share and release here too. With a unified cache a shared cell costs
nothing, so this is what admission asks.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Cells = NDArray[np.int32]


class CellLedger:
    """Reference counts of `size` cells."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._holders = np.zeros(size, np.int32)
        self._free = list(range(size - 1, -1, -1))

    @property
    def used(self) -> int:
        return self.size - len(self._free)

    @property
    def free(self) -> int:
        return len(self._free)

    def take(self, count: int) -> Cells:
        """`count` fresh cells with one holder each. The caller has checked `free`."""
        if count > len(self._free):
            raise AssertionError(f"{count} cells asked of {len(self._free)} free ones")
        taken = np.array([self._free.pop() for _ in range(count)], np.int32)
        self._holders[taken] = 1
        return taken

    def share(self, cells: Cells) -> Cells:
        """One more holder for each of `cells`."""
        self._holders[cells] += 1
        return cells.copy()

    def release(self, cells: Cells) -> None:
        """One holder less for each; those without a holder are free again."""
        self._holders[cells] -= 1
        freed = cells[self._holders[cells] == 0]
        self._free.extend(freed.tolist())

    def distinct(self, holdings: Iterable[Cells]) -> int:
        """How many different cells `holdings` name together."""
        named = np.zeros(self.size, np.bool_)
        for cells in holdings:
            named[cells] = True
        return int(np.count_nonzero(named))

    def check(self, holdings: Iterable[Cells]) -> None:
        """Raises AssertionError unless `holdings` are all that hold cells, and the rest is free."""
        counted = np.zeros(self.size, np.int32)
        for cells in holdings:
            counted[cells] += 1
        wrong = np.flatnonzero(counted != self._holders)
        if len(wrong):
            raise AssertionError(f"the holders of cells {wrong[:8].tolist()} are counted wrongly")
        if sorted(self._free) != np.flatnonzero(counted == 0).tolist():
            raise AssertionError("the free cells are not those without a holder")
