"""An upgrade by swapping the program, and the way back: rehearsed with a next version made from this one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from appliance.version import VERSION
from tests.commands import run_hearth
from tests.conftest import StartServer
from tests.serving import Served

ROOT = Path(__file__).parents[2]
NEXT = "99.0.0"
STEP = "ALTER TABLE objects ADD COLUMN colour TEXT NOT NULL DEFAULT 'grey';"


def next_version(directory: Path) -> Path:
    """This program with another version and one more step of migration, as a tree to be found first."""
    for package in ("appliance", "models"):
        shutil.copytree(
            ROOT / package, directory / package, ignore=shutil.ignore_patterns("__pycache__", "*.gguf")
        )
    version = directory / "appliance" / "version.py"
    version.write_text(version.read_text().replace(VERSION, NEXT))
    migrations = directory / "appliance" / "store" / "archive_migrations.py"
    text = migrations.read_text().rstrip()
    assert text.endswith('""",\n)')
    migrations.write_text(text.removesuffix(")") + f'    "{STEP}",\n)\n')
    return directory


def kept_chat(server: Served) -> str:
    answer = server.chat("Say hello.", max_tokens=3, store=True)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def has_chat(server: Served, id: str) -> bool:
    return server.http.get(f"/v1/chat/completions/{id}").status_code == 200


def test_an_upgrade_and_the_way_back(
    start_server: StartServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    old = start_server(home=home)
    first = kept_chat(old)
    old.stop()

    # The file is swapped.
    monkeypatch.setenv("PYTHONPATH", str(next_version(tmp_path / "next")))
    new = start_server(home=home)
    assert new.http.get("/version").json() == {"version": NEXT}
    assert has_chat(new, first), "what was there is brought forward"
    later = kept_chat(new)
    new.stop()
    (backup,) = (home / "backups").glob(f"before-upgrade-{NEXT}-*.tar")
    newer = tmp_path / "newer.tar"
    assert run_hearth("backup", str(newer), home=home).returncode == 0

    # It is swapped back: the older program touches nothing that it does not know.
    monkeypatch.delenv("PYTHONPATH")
    done = run_hearth("serve", "--port", "0", "--pull", "never", home=home)
    assert done.returncode == 1
    assert "was made by a newer Hearth" in done.stderr
    done = run_hearth("restore", str(newer), home=home)
    assert done.returncode == 1
    assert f"made by Hearth {NEXT}" in done.stderr
    done = run_hearth("restore", str(backup), home=home)
    assert done.returncode == 0, done.stderr
    back = start_server(home=home)
    assert back.http.get("/version").json() == {"version": VERSION}
    assert has_chat(back, first)
    assert not has_chat(back, later), "the backup is from before the upgrade"
    back.stop()
