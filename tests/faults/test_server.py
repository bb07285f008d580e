"""Short counts of the faults that are done to a whole server; `make bench` does all of them in full."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

MISSING = 77
pytestmark = pytest.mark.timeout(300)  # on machines that are busy with all else


def figures(script: str, *options: str) -> dict[str, Any]:
    words = [sys.executable, "-m", f"tests.faults.{script}", *options]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=280)
    if done.returncode == MISSING:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_kills_lose_nothing_that_was_acknowledged() -> None:
    found = figures("server_kills", "--count", "4", "--seed", "3")
    assert found["kills"] == 4
    assert (found["lost"], found["hung"], found["ended_wrongly"], found["audit_sound"]) == (0, 0, 0, True)


def test_a_full_disk_is_told_and_survived() -> None:
    found = figures("server_full_disk", "--rounds", "2")
    assert found["refused"]["upload 507"] == 2
    assert found["wrong"] == []


def test_clients_that_leave_leave_nothing_behind() -> None:
    found = figures("server_disconnects", "--count", "15")
    assert (found["leaked_slots"], found["leaked_descriptors"], found["leaked_tasks"]) == (0, 0, 0)
