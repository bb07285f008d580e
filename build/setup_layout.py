"""Owns where set-up reads and writes. Knows nothing of what the files hold."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RUN_LOCK = ROOT / "requirements.lock"
DEV_LOCK = ROOT / "requirements-dev.lock"
CLIENTS_LOCK = ROOT / "requirements-clients.lock"
LEAN_CMAKE = ROOT / "build" / "lean.cmake"
MASKED_CELLS = (ROOT / "build" / "masked_cells.cmake", ROOT / "build" / "masked_cells.h")

VENV = ROOT / ".venv"
VENV_PYTHON = VENV / "bin" / "python"
CLIENTS_VENV = ROOT / ".venv-clients"
CLIENTS_STAMP = CLIENTS_VENV / "hearth-setup.json"
# Inside .venv, so that removing .venv removes the memory of it.
STAMP = VENV / "hearth-setup.json"

WORK = ROOT / ".work"
LOG = WORK / "setup.log"
SCRATCH = WORK / "setup"
TURNSTILE = WORK / "setup.lock"


def wheel_cache_home() -> Path:
    """The user's cache of compiled wheels, shared by all checkouts."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "hearth" / "wheels"
