"""What goes into ggml's attention, compiled and held against the plain statement of what it should say."""

from __future__ import annotations

import ctypes
import shutil
import subprocess

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from setup_layout import MASKED_CELLS, ROOT

HIDDEN = np.float16(-np.inf)
TILE = 8
EXPORTED = """
#include "masked_cells.h"
extern "C" int64_t next_visible(const uint16_t * row, int64_t cell, int64_t end) {
    return hearth::next_visible(row, cell, end);
}
extern "C" bool sees_any(const char * first, size_t stride, int count, int64_t cell, int64_t end) {
    return hearth::mask_rows{first, stride, count}.sees_any(cell, end);
}
extern "C" bool is_sparse(const char * first, size_t stride, int count, int64_t cells, int64_t tile) {
    return hearth::mask_rows{first, stride, count}.is_sparse(cells, tile, tile);
}
"""
# Long runs of hidden cells with a few between them that are seen, in any place of a word.
ROW = st.lists(
    st.one_of(
        st.integers(1, 150).map(lambda run: [-np.inf] * run), st.sampled_from([[0.0], [-1.5], [-65504.0]])
    ),
    min_size=1,
    max_size=8,
).map(lambda runs: np.array([value for run in runs for value in run], np.float16))

Mask = NDArray[np.float16]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("there is no C++ compiler here")
    directory = tmp_path_factory.mktemp("masked")
    source, library = directory / "exported.cpp", directory / "exported.so"
    source.write_text(EXPORTED)
    flags = ["-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", f"-I{ROOT / 'build'}"]
    subprocess.run([compiler, *flags, source, "-o", library], check=True)
    found = ctypes.CDLL(str(library))
    found.next_visible.argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64]
    found.next_visible.restype = ctypes.c_int64
    rows = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    found.sees_any.argtypes, found.sees_any.restype = [*rows, ctypes.c_int64, ctypes.c_int64], ctypes.c_bool
    found.is_sparse.argtypes, found.is_sparse.restype = [*rows, ctypes.c_int64, ctypes.c_int64], ctypes.c_bool
    return found


@given(row=ROW, begin=st.integers(0, 900), length=st.integers(0, 900))
def test_the_next_visible_cell(compiled: ctypes.CDLL, row: Mask, begin: int, length: int) -> None:
    begin = min(begin, len(row))
    end = min(begin + length, len(row))
    visible = [cell for cell in range(begin, end) if row[cell] != HIDDEN]
    assert compiled.next_visible(row.ctypes.data, begin, end) == (visible[0] if visible else end)


@given(rows=st.lists(ROW, min_size=1, max_size=6), begin=st.integers(0, 900))
def test_what_some_row_sees(compiled: ctypes.CDLL, rows: list[Mask], begin: int) -> None:
    mask = side_by_side(rows)
    begin = min(begin, mask.shape[1])
    end = min(begin + TILE, mask.shape[1])
    told = compiled.sees_any(mask.ctypes.data, mask.strides[0], len(mask), begin, end)
    assert told == bool((mask[:, begin:end] != HIDDEN).any())


@given(rows=st.lists(ROW, min_size=1, max_size=TILE))
def test_rows_are_sparse_that_see_little_of_the_tiles_they_need(
    compiled: ctypes.CDLL, rows: list[Mask]
) -> None:
    mask = side_by_side(rows)
    cells = mask.shape[1]
    needed = [at for at in range(0, cells, TILE) if (mask[:, at : at + TILE] != HIDDEN).any()]
    visible = int((mask != HIDDEN).sum())
    told = compiled.is_sparse(mask.ctypes.data, mask.strides[0], len(mask), cells, TILE)
    assert told == (8 * visible < len(needed) * TILE * TILE)


def test_every_file_that_is_compiled_in_decides_which_wheel_fits() -> None:
    named = {path.name for path in (ROOT / "build").glob("masked_cells.*")}
    assert {path.name for path in MASKED_CELLS} == named


def side_by_side(rows: list[Mask]) -> Mask:
    """One mask of rows as long as the longest; the shorter see nothing in the rest."""
    mask = np.full((len(rows), max(map(len, rows))), HIDDEN, np.float16)
    for at, row in enumerate(rows):
        mask[at, : len(row)] = row
    return mask
