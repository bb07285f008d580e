"""Hands memory that is nothing but zeros back to the kernel, which gives zeros again when it is touched.

llama.cpp fills a new KV cache with zeros and so takes all of its pages, though most boxes use few of them.
Only memory that came while the block ran is looked at, and only pieces as large as the caller knows his to
be: what others allocate meanwhile is never touched. Formats: proc(5), `/proc/self/maps`; madvise(2),
MADV_DONTNEED.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
from collections.abc import Iterator
from pathlib import Path

MAPS = Path("/proc/self/maps")
PIECE = 1 << 20  # bytes compared at once

Extents = list[tuple[int, int]]

_libc = ctypes.CDLL(None, use_errno=True)
_libc.memcmp.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
_libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


@contextlib.contextmanager
def handed_back(least: int) -> Iterator[None]:
    """Of memory that the block allocates, runs of at least `least` zero bytes are handed back at its end.

    Less than PIECE is not worth looking for, and 0 is a size that is not known.
    """
    if least < PIECE:
        yield
        return
    before = anonymous(MAPS.read_text())
    yield
    zeros = ctypes.create_string_buffer(PIECE)
    for start, end in without(anonymous(MAPS.read_text()), before):
        for first, last in zero_runs(start, end, zeros):
            if last - first >= least:
                _libc.madvise(first, last - first, mmap.MADV_DONTNEED)


def anonymous(maps: str) -> Extents:
    """Where the process may write and nothing of a file is mapped, in their order; neighbours as one."""
    found: Extents = []
    for line in maps.splitlines():
        extent, permissions, _, _, inode, *name = line.split(maxsplit=5)
        if permissions != "rw-p" or inode != "0" or (name and name[0].startswith("[stack")):
            continue
        start, end = (int(number, 16) for number in extent.split("-"))
        if found and found[-1][1] == start:
            found[-1] = (found[-1][0], end)
        else:
            found.append((start, end))
    return found


def without(extents: Extents, others: Extents) -> Extents:
    """What of `extents` lies in none of `others`; both in their order and without overlaps of their own."""
    left: Extents = []
    for start, end in extents:
        at = start
        for other_start, other_end in others:
            if other_end <= at or other_start >= end:
                continue
            if other_start > at:
                left.append((at, other_start))
            at = other_end
        if at < end:
            left.append((at, end))
    return left


def zero_runs(start: int, end: int, zeros: ctypes.Array[ctypes.c_char]) -> Extents:
    """Runs of whole pieces of zeros between two page addresses, the last piece being what is left."""
    runs: Extents = []
    for at in range(start, end, PIECE):
        size = min(PIECE, end - at)
        if _libc.memcmp(at, zeros, size) != 0:
            continue
        if runs and runs[-1][1] == at:
            runs[-1] = (runs[-1][0], at + size)
        else:
            runs.append((at, at + size))
    return runs
