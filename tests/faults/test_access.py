"""Short runs of the scripts about access; their full counts are in docs/RELIABILITY.md."""

from __future__ import annotations

from pathlib import Path

from tests.faults import canaries, slow_clients


def test_slow_clients_are_left(tmp_path: Path) -> None:
    settings = ("limits.receive_seconds=1", "limits.stall_seconds=1")
    for found in slow_clients.run(tmp_path / "home", 12, 2.0, settings=settings):
        assert (found.evicted, found.kept, found.refused, found.failed) == (12, 0, 0, 0), found
        assert found.evicted_latest < 15


def test_no_secret_is_written_anywhere(tmp_path: Path) -> None:
    found = canaries.run(tmp_path / "home", credentials=1)
    assert found.hits == []
    assert found.requests > 250
    assert found.kept >= 6
