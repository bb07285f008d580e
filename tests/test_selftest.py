"""`hearth selftest` from source: every check holds on a healthy machine, and a broken one is told."""

from __future__ import annotations

import json
from pathlib import Path

from tests.commands import run_hearth
from tests.conftest import require
from tests.serving import CHAT, EMBED, SINGLE_THREADED


def selftest(home: Path, *assignments: str) -> tuple[int, list[dict[str, object]]]:
    words = [word for each in (*SINGLE_THREADED, *assignments) for word in ("--set", each)]
    done = run_hearth("selftest", "--json", *words, home=home)
    return done.returncode, json.loads(done.stdout)


def test_every_check_holds(tmp_path: Path) -> None:
    require((CHAT, EMBED))
    status, checks = selftest(tmp_path, f"models={CHAT},{EMBED}")
    assert [check for check in checks if check["problem"]] == []
    assert status == 0
    assert len(checks) >= 16


def test_a_server_that_does_not_start_is_told_with_its_own_words(tmp_path: Path) -> None:
    status, checks = selftest(tmp_path, "models=no-such-model")
    assert status == 1
    assert len(checks) == 1
    assert "no-such-model" in str(checks[0]["problem"])
