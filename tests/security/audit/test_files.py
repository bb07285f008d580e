"""The log's files: the key, the last whole line, the end that is remembered, pages."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.errors import SetupError
from appliance.security.audit.chain import Link
from appliance.security.audit.files import KEY, TAIL_BYTES, LogFile, last_line, log_files, read_key
from appliance.security.audit.head import SLOT_BYTES, Head, read_head
from appliance.security.audit.pages import _entries, page_after, page_before
from tests.security.audit.conftest import Home

SECRET = b"k" * 32


def test_only_files_of_the_log_are_its_files(tmp_path: Path) -> None:
    for name in ("audit-000000000020.jsonl", "audit-000000000001.jsonl", "audit-copy.jsonl", "notes.jsonl"):
        (tmp_path / name).touch()
    assert [file.first for file in log_files(tmp_path)] == [1, 20]


def test_the_last_whole_line_is_found_behind_whatever_was_torn(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for content, found in (
        (b"", (b"", 0)),
        (b"torn", (b"", 0)),
        (b"one\n", (b"one", 4)),
        (b"one\ntwo\ntorn", (b"two", 8)),
        (b"x" * TAIL_BYTES + b"\none\n", (b"one", TAIL_BYTES + 5)),
        (b"x" * (TAIL_BYTES + 1), (b"", TAIL_BYTES + 1)),  # no line of ours: it is left as it is
    ):
        path.write_bytes(content)
        assert last_line(path) == found


def test_a_key_is_there_whole_or_told(tmp_path: Path) -> None:
    path = tmp_path / KEY
    with pytest.raises(SetupError, match="is not there"):
        read_key(path)
    made = read_key(path, make=True)
    assert len(made) == 32
    assert read_key(path) == read_key(path, make=True) == made
    path.write_text("00" * 31)
    with pytest.raises(SetupError, match="has 31 bytes"):
        read_key(path)
    path.write_text("zz" * 32)
    with pytest.raises(SetupError, match="cannot be used"):
        read_key(path)


def test_the_end_is_remembered_though_one_of_its_slots_is_torn(tmp_path: Path) -> None:
    path = tmp_path / "head"
    assert read_head(SECRET, path) is None
    head = Head(path)
    assert read_head(SECRET, path) is None, "nothing was written yet"
    for seq in (1, 2, 3):
        head.write(SECRET, Link(seq, "m" * 64))
    head.close()
    assert read_head(SECRET, path) == Link(3, "m" * 64)
    whole = path.read_bytes()
    path.write_bytes(b"{" * SLOT_BYTES + whole[SLOT_BYTES:])
    assert read_head(SECRET, path) == Link(2, "m" * 64)
    path.write_bytes(whole[:SLOT_BYTES] + whole[SLOT_BYTES:].replace(b'"seq":2', b'"seq":9'))
    assert read_head(SECRET, path) == Link(3, "m" * 64), "a slot that somebody changed does not count"
    assert read_head(b"o" * 32, path) is None


def test_pages_leave_out_what_is_no_line_or_gone(home: Home) -> None:
    home.serve(5)  # lines 1 to 7
    home.change(lambda lines: [*lines[:3], b"no line\n", *lines[3:]])

    def numbers(seq: int, limit: int) -> tuple[list[int], list[int]]:
        pages = (
            page(home.directory, seq, limit, 7, lambda entry: entry.status in (0, 200))
            for page in (page_after, page_before)
        )
        after, before = ([entry.seq for entry in page.data] for page in pages)
        return after, before

    assert numbers(2, 3) == ([3, 4, 5], [1])
    assert numbers(6, 3) == ([7], [3, 4, 5])
    assert numbers(8, 100) == ([], [1, 2, 3, 4, 5, 6, 7])
    assert list(_entries(LogFile(home.directory / "audit-000000000099.jsonl", 99))) == []
