"""Owns the compilation of the launcher, the executable's first part: static, so that it runs anywhere."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

from setup_failure import SetupError, diagnose
from setup_layout import ROOT, WORK

SOURCES = tuple(
    ROOT / "build" / f"launcher{part}.c" for part in ("", "_archive", "_place", "_sha256", "_unpack")
)
LAUNCHER = WORK / "launcher"

# No flags of the person's own: it must start on any x86-64 processor, to refuse those that do not fit.
FLAGS = ("-std=gnu17", "-O2", "-march=x86-64", "-static", "-s", "-Wall", "-Wextra", "-Werror")


def compile_launcher() -> Path:
    """The launcher, compiled anew (a second's work). Raises SetupError."""
    compiler = shlex.split(os.environ.get("CC", "cc"))
    command = [
        *compiler,
        *FLAGS,
        "-o",
        str(LAUNCHER),
        *(source.name for source in SOURCES),
        "-lz",
        "-pthread",
    ]
    WORK.mkdir(exist_ok=True)
    # From where the sources lie, so that no path of this machine gets in.
    result = subprocess.run(command, cwd=ROOT / "build", capture_output=True, text=True, errors="replace")
    if result.returncode:
        raise SetupError(diagnose(result.stderr, "The compilation of the launcher"), (result.stderr[-2000:],))
    return LAUNCHER
