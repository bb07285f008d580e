"""Owns .venv-clients: what requirements-clients.lock says, beside .venv, for `make clients`.

The clients in it want other versions than ours, so nothing of ours is installed there. A second run with
nothing to do costs one hash of the lock.
"""

from __future__ import annotations

import os
import shutil
import sys
from typing import TextIO

from requirements_lock import read_lock, render
from setup_command import LineReader, run_tool
from setup_environment import Command, tool_environment, turnstile
from setup_layout import CLIENTS_LOCK, CLIENTS_STAMP, CLIENTS_VENV, LOG, ROOT, SCRATCH, VENV_PYTHON
from setup_progress import Progress
from setup_readers import PipReader, read_nothing
from wheel_cache import file_sha256


def ensure_clients() -> None:
    """Make .venv-clients what the lock says. Needs a .venv, whose pip it uses. Raises SetupError."""
    wanted = file_sha256(CLIENTS_LOCK)
    with turnstile():
        if CLIENTS_STAMP.is_file() and CLIENTS_STAMP.read_text() == wanted:
            return
        pins = read_lock(CLIENTS_LOCK.read_text())
        print(f"Setting up {CLIENTS_VENV.name} ({len(pins)} packages). All output: {LOG.relative_to(ROOT)}")
        shutil.rmtree(CLIENTS_VENV, ignore_errors=True)
        SCRATCH.mkdir(parents=True, exist_ok=True)
        file = SCRATCH / "clients.txt"
        file.write_text(render(pins))
        make: Command = [sys.executable, "-m", "venv", "--without-pip", CLIENTS_VENV]
        install: Command = [VENV_PYTHON, "-m", "pip", "--python", CLIENTS_VENV / "bin" / "python", "install"]
        install += ["--require-hashes", "--no-deps", "--only-binary", ":all:"]
        install += ["--progress-bar", "raw", "-r", file]
        with LOG.open("a", buffering=1) as log:
            _run("virtual environment", make, read_nothing, log)
            _run("clients", install, PipReader(len(pins)), log)
        CLIENTS_STAMP.write_text(wanted)


def _run(label: str, command: Command, reader: LineReader, log: TextIO) -> None:
    progress = Progress(sys.stdout, f"  {label}")
    run_tool(
        command,
        name=f"The installation of the {label}",
        log=log,
        progress=progress,
        read_line=reader,
        env=tool_environment(os.environ),
        cwd=ROOT,
    )
    progress.finish()
