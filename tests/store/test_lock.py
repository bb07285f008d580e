"""A home's servers share it; who replaces what is in it has it alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.errors import SetupError
from appliance.store.lock import HomeLock


def test_servers_share_a_home_and_keep_out_who_replaces_it(tmp_path: Path) -> None:
    first, second = HomeLock(tmp_path), HomeLock(tmp_path)
    with pytest.raises(SetupError, match="a server uses"):
        HomeLock(tmp_path, alone=True)
    first.release()
    with pytest.raises(SetupError, match="a server uses"):
        HomeLock(tmp_path, alone=True)
    second.release()
    alone = HomeLock(tmp_path, alone=True)
    for wanted in (True, False):
        with pytest.raises(SetupError):
            HomeLock(tmp_path, alone=wanted)
    alone.release()
    HomeLock(tmp_path).release()
