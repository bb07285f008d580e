"""Owns the frozen program: a folder that runs without Python being installed, the same bytes every time.

PyInstaller decides what goes in, by build/appliance.spec. Knows nothing of models or of the one file.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TextIO

from native import SOURCE_DATE_EPOCH, ensure_native
from setup_command import run_tool
from setup_failure import Failure, SetupError
from setup_layout import ROOT, VENV_PYTHON, WORK
from setup_progress import Progress
from setup_readers import read_nothing

SPEC = ROOT / "build" / "appliance.spec"
WORK_FOLDER = WORK / "pyinstaller"
ANALYSIS = WORK_FOLDER / "work" / "appliance"  # PyInstaller's lists of what it took
PROGRAM = WORK_FOLDER / "dist" / "program"

ELF = b"\x7fELF"
# Libraries whose segments were moved after linking (auditwheel does): strip corrupts them.
MOVED_LIBRARIES = re.compile(r"/[\w.]+\.libs/")
_GLIBC_VERSION = re.compile(r"\bGLIBC_2\.(\d{1,3})\b")
_PIECE = 200  # files per call of a tool


def freeze(log: TextIO) -> Path:
    """The program's folder, made anew. Raises SetupError."""
    native = ensure_native()
    shutil.rmtree(WORK_FOLDER, ignore_errors=True)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    environment |= {
        "PYTHONPATH": str(native),  # before .venv, whose compiled packages are for this processor only
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "SOURCE_DATE_EPOCH": SOURCE_DATE_EPOCH,
        "PYINSTALLER_CONFIG_DIR": str(WORK_FOLDER / "config"),
    }
    command: list[str | Path] = [VENV_PYTHON, "-m", "PyInstaller", "--noconfirm", "--log-level", "WARN"]
    command += ["--workpath", WORK_FOLDER / "work", "--distpath", PROGRAM.parent, SPEC]
    progress = Progress(sys.stdout, "  freezing the program")
    run_tool(
        command,
        name="PyInstaller",
        log=log,
        progress=progress,
        read_line=read_nothing,
        env=environment,
        cwd=ROOT,
    )
    progress.finish()
    _refuse_startup_code(PROGRAM)
    strip(PROGRAM)
    return PROGRAM


def libraries(program: Path) -> list[Path]:
    """Every ELF file of the program, sorted; links are not followed."""
    files = [path for path in sorted(program.rglob("*")) if path.is_file() and not path.is_symlink()]
    return [path for path in files if _begins_with(path, ELF)]


def strip(program: Path) -> None:
    """Drop debugging symbols; of the program itself never, because its archive hangs at its end."""
    chosen = [
        path
        for path in libraries(program)
        if path.parent != program and not MOVED_LIBRARIES.search(path.as_posix())
    ]
    for at in range(0, len(chosen), _PIECE):
        _call(["strip", "--strip-unneeded", "--preserve-dates", *chosen[at : at + _PIECE]])


def needed_glibc(program: Path) -> int:
    """The least minor version of glibc 2 that every library of the program can be loaded with."""
    found = {0}
    files = libraries(program)
    for at in range(0, len(files), _PIECE):
        symbols = _call(["objdump", "-T", *files[at : at + _PIECE]])
        found.update(int(minor) for minor in _GLIBC_VERSION.findall(symbols))
    return max(found)


def _refuse_startup_code(program: Path) -> None:
    startup = list(program.rglob("*.pth"))
    if startup:
        raise SetupError(
            Failure(
                f"The program would carry {startup[0].name}, whose code runs unasked at every start.",
                "Find the package that brings it and leave it out in build/appliance.spec.",
            )
        )


def _begins_with(path: Path, start: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(start)) == start


def _call(command: list[str | Path]) -> str:
    result = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if result.returncode:
        raise SetupError(
            Failure(f"{command[0]} failed.", "On Debian: apt-get install binutils"), (result.stderr[-2000:],)
        )
    return result.stdout
