"""A short run of the script, so that it keeps working; the count is in docs/RELIABILITY.md."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import require
from tests.faults.hostile_texts import run
from tests.serving import CHAT, EMBED


def test_texts_come_back_and_nothing_breaks(tmp_path: Path) -> None:
    require([CHAT, EMBED])
    found = run(tmp_path / "home", texts=30, bodies=120, seed=3)
    assert found["texts"] == 30
    assert (found["bad_answers"], found["lost"], found["changed"]) == ({}, [], [])
