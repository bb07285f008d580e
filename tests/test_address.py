from __future__ import annotations

from pathlib import Path

import pytest

from appliance import address, paths


def test_what_a_server_tells_is_found_until_it_ends(tmp_path: Path) -> None:
    assert address.find(tmp_path) is None
    address.tell(tmp_path, "http://127.0.0.1:9000")
    assert address.find(tmp_path) == "http://127.0.0.1:9000"
    address.forget(tmp_path, "http://127.0.0.1:9000")
    assert address.find(tmp_path) is None


def test_the_next_server_replaces_a_killed_ones_line_and_keeps_its_own(tmp_path: Path) -> None:
    address.tell(tmp_path, "http://127.0.0.1:9000")
    address.tell(tmp_path, "https://127.0.0.1:9001")
    address.forget(tmp_path, "http://127.0.0.1:9000")
    assert address.find(tmp_path) == "https://127.0.0.1:9001"


@pytest.mark.parametrize(
    ("told", "asked"),
    [
        ("https://0.0.0.0:9000", "https://127.0.0.1:9000"),
        ("http://[::]:9000", "http://[::1]:9000"),
        ("http://[fe80::1]:9000", "http://[fe80::1]:9000"),
    ],
)
def test_a_server_on_all_addresses_is_asked_on_this_machines_own(
    tmp_path: Path, told: str, asked: str
) -> None:
    address.tell(tmp_path, told)
    assert address.find(tmp_path) == asked


@pytest.mark.parametrize("line", [b"", b"\xff\xfe", b"file:///etc/passwd", b"nonsense", b"http://"])
def test_a_damaged_line_is_no_address(tmp_path: Path, line: bytes) -> None:
    paths.address(tmp_path).write_bytes(line)
    assert address.find(tmp_path) is None
