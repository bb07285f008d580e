"""Short runs of the routing fault scripts, so that they keep working; the counts are in their figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import require
from tests.faults import offline
from tests.faults.routing_server import cut_streams, reload_under_load
from tests.serving import CHAT, EMBED, RERANK


def test_reloads_under_load_fail_no_request(tmp_path: Path) -> None:
    require([CHAT])
    found = reload_under_load(tmp_path, 60)
    assert (found.reloads, found.refused, found.failed) == (60, 1, 0)
    assert found.requests > 20


def test_cut_streams_lose_and_double_nothing(tmp_path: Path) -> None:
    require([CHAT])
    found = cut_streams(tmp_path, 25, seed=5)
    assert (found.streams, found.wrong, found.errors) == (25, 0, 0)
    assert found.continued > 10


def test_offline_nothing_leaves(capfd: pytest.CaptureFixture[str]) -> None:
    require([CHAT, EMBED, RERANK])
    status = offline.run()
    if status == offline.MISSING:
        pytest.skip("strace or user namespaces are missing here")
    assert status == 0, capfd.readouterr().out
