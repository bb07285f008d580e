"""The Makefile's promises that can be seen without carrying them out."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def make(*arguments: str, **environ: str) -> str:
    env = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")} | environ
    done = subprocess.run(["make", *arguments], cwd=ROOT, env=env, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "target", ["run", "test", "coverage", "clients", "check", "bench", "lock", "clean", "help"]
)
def test_help_names_every_command(target: str) -> None:
    assert f"  make {target} " in make("help")


def test_help_is_what_make_alone_shows() -> None:
    assert make() == make("help")


def test_run_serves_after_set_up() -> None:
    lines = make("--dry-run", "run").splitlines()
    assert len(lines) == 2
    assert lines[0].endswith("build/bootstrap.py run")
    assert lines[1] == "exec .venv/bin/python -m appliance serve"


def test_pack_reaches_the_program_as_its_setting() -> None:
    database = make("--dry-run", "--print-data-base", "run", PACK="tiny")
    assert "export HEARTH_PACK := tiny" in database or "HEARTH_PACK := tiny" in database
    assert "HEARTH_PACK" not in make("--dry-run", "--print-data-base", "run")


def test_ci_runs_check_and_test() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    assert "make check test" in script
    subprocess.run(["bash", "-n", ROOT / ".ci" / "run"], check=True)
