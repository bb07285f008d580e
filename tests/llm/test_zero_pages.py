"""Zeros go back to the kernel; nothing else does, whoever it belongs to."""

from __future__ import annotations

import mmap

import psutil

from appliance.llm.zero_pages import PIECE, anonymous, handed_back, without

MAPS = """\
00400000-00401000 rw-p 00000000 00:00 0
00401000-00402000 rw-p 00000000 00:00 0
00500000-00501000 r--p 00000000 00:00 0
00600000-00601000 rw-p 00000000 fe:00 77     /a/library with spaces.so
00700000-00701000 rw-p 00000000 00:00 0      [heap]
00800000-00801000 rw-p 00000000 00:00 0      [stack]
"""


def written(content: bytes, pieces: int) -> mmap.mmap:
    memory = mmap.mmap(-1, pieces * PIECE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.write(content * (pieces * PIECE // len(content)))
    return memory


def resident() -> int:
    return int(psutil.Process().memory_info().rss)


def test_memory_of_the_process_alone_is_looked_at() -> None:
    assert anonymous(MAPS) == [(0x400000, 0x402000), (0x700000, 0x701000)]


def test_what_was_there_before_is_left_out() -> None:
    assert without([(0, 10), (20, 30)], [(2, 4), (8, 22), (29, 40)]) == [(0, 2), (4, 8), (22, 29)]
    assert without([(0, 10)], []) == [(0, 10)]
    assert without([(0, 10)], [(0, 10)]) == []


def test_zeros_are_handed_back_and_stay_zeros() -> None:
    with handed_back(least=60 * PIECE):
        zeros = written(b"\0", 64)
        before = resident()
    assert before - resident() > 55 * PIECE
    assert zeros[:] == bytes(64 * PIECE)
    zeros.close()


def test_what_is_written_or_small_or_older_stays() -> None:
    older = written(b"\0", 64)
    with handed_back(least=60 * PIECE):
        words, small = written(b"words " + bytes(PIECE - 6), 64), written(b"\0", 8)
        before = resident()
    assert abs(before - resident()) < 2 * PIECE
    assert words[: 6 + 10] == b"words " + bytes(10)
    for each in (older, words, small):
        each.close()
