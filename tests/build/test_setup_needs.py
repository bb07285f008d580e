"""Which steps are due, and that nothing is due is known without pip, the network or much time."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import setup_needs
from setup_failure import SetupError
from setup_needs import SOURCE_ONLY, outdated, read_needs, read_stamp, write_stamp

ROOT = Path(__file__).resolve().parents[2]
WANTED = {"python": "311", "root": "/house", "packages": "1", "engine": "2", "project": "3"}


def test_nothing_is_due_when_all_keys_agree() -> None:
    assert outdated(WANTED, dict(WANTED)) == set()
    assert outdated(WANTED, WANTED | {"dev": "more than is asked for"}) == set()


def test_only_what_changed_is_due() -> None:
    assert outdated(WANTED, WANTED | {"engine": "old"}) == {"engine"}
    assert outdated(WANTED | {"dev": "4"}, WANTED) == {"dev"}


@pytest.mark.parametrize("key", ["python", "root"])
def test_everything_is_due_for_another_python_or_place(key: str) -> None:
    assert outdated(WANTED, WANTED | {key: "other"}) == set(WANTED)
    assert outdated(WANTED, {}) == set(WANTED)


def test_a_stamp_reads_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup_needs, "STAMP", tmp_path / "stamp.json")
    assert read_stamp() == {}
    write_stamp(WANTED)
    assert read_stamp() == WANTED
    (tmp_path / "stamp.json").write_text('{"cut off": ')
    assert read_stamp() == {}


def test_a_stamp_counts_for_nothing_without_a_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup_needs, "STAMP", tmp_path / "stamp.json")
    monkeypatch.setattr(setup_needs, "VENV_PYTHON", tmp_path / "gone")
    write_stamp(WANTED)
    assert read_stamp() == {}


def test_the_needs_of_tests_are_those_of_serving_and_more() -> None:
    run, dev = read_needs(dev=False), read_needs(dev=True)
    assert set(dev.keys) - set(run.keys) == {"dev"}
    assert set(SOURCE_ONLY) <= set(run.keys)


def test_a_damaged_lock_is_an_error_with_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup_needs, "RUN_LOCK", tmp_path / "some.lock")
    (tmp_path / "some.lock").write_text("anyio>=4\n")
    with pytest.raises(SetupError, match=r"some\.lock.*anyio>=4"):
        read_needs(dev=False)


def test_a_finished_set_up_starts_nothing_and_costs_little(tmp_path: Path) -> None:
    """The real script in a copy of the house whose stamp says that all is done."""
    for name in ("pyproject.toml", "requirements.lock", "requirements-dev.lock"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    (tmp_path / "build").mkdir()
    for file in (ROOT / "build").glob("*.*"):
        (tmp_path / "build" / file.name).write_bytes(file.read_bytes())
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\necho the venv was touched\nexit 1\n")
    python.chmod(0o755)
    in_the_copy = [sys.executable, "-S", "-E"]
    set_up = [*in_the_copy, "build/bootstrap.py", "dev"]
    stamp = "from setup_needs import *; write_stamp(read_needs(dev=True).keys)"
    environ = {"PATH": os.defpath, "HOME": str(tmp_path)}
    subprocess.run([*in_the_copy, "-c", stamp], cwd=tmp_path / "build", env=environ, check=True)

    took = []
    for _ in range(3):
        started = time.perf_counter()
        done = subprocess.run(set_up, cwd=tmp_path, env=environ, capture_output=True, text=True)
        took.append(time.perf_counter() - started)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert min(took) < 0.3
    assert not (tmp_path / ".work").exists()


def test_bootstrap_says_how_it_is_used() -> None:
    done = subprocess.run([sys.executable, ROOT / "build" / "bootstrap.py"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "usage: python3 build/bootstrap.py run|dev|clients\n"
