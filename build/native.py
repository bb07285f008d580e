"""Owns the compiled packages that travel inside the executable: they run on any x86-64 machine.

.venv holds the same packages compiled for this one processor. Here ggml comes with every CPU variant
as a backend of its own, chosen at start, and hnswlib without -march=native. The wheels are kept in the
cache of compiled wheels and unpacked side by side in .work/native. Knows nothing of freezing.

    .venv/bin/python build/native.py      makes them, and prints where they are
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

from requirements_lock import Pin, render
from setup_command import LineReader, run_tool
from setup_failure import SetupError, report
from setup_layout import ROOT, VENV, VENV_PYTHON, WORK, wheel_cache_home
from setup_needs import SOURCE_ONLY, Keys, build_settings, read_needs
from setup_progress import Progress
from setup_readers import NinjaReader, PipReader
from wheel_cache import WheelCache, file_sha256, wheel_key

NATIVE = WORK / "native"
LOG = WORK / "native.log"
PORTABLE_CMAKE = ROOT / "build" / "portable.cmake"

CMAKE_OPTIONS = (
    "-DGGML_NATIVE=OFF",
    "-DGGML_BACKEND_DL=ON",
    "-DGGML_CPU_ALL_VARIANTS=ON",
    "-DLLAVA_BUILD=OFF",
    f"-DCMAKE_PROJECT_llama_cpp_INCLUDE={PORTABLE_CMAKE}",
)

# Of llama-cpp-python, the ctypes declarations: its own engine and server would only slow every start.
BINDINGS = ("_ctypes_extensions.py", "_ggml.py", "lib", "llama_cpp.py")

# 2026-01-01: file times inside wheels are part of their bytes.
SOURCE_DATE_EPOCH = "1767225600"

# Instructions of the building processor, or paths of the building machine, must not leak in.
_OVERRIDING_VARIABLES = (
    "CMAKE_ARGS",
    "CFLAGS",
    "CXXFLAGS",
    "CPPFLAGS",
    "LDFLAGS",
    "PYTHONPATH",
    "PYTHONHOME",
)


def ensure_native() -> Path:
    """The directory with the packages, made if need be (about 15 minutes on 2 cores). Raises SetupError."""
    pins = read_needs(dev=True).pins
    keys = native_keys(pins, os.environ)
    stamp = NATIVE / "keys"
    wanted = "".join(f"{name} {key}\n" for name, key in sorted(keys.items())) + f"{BINDINGS}\n"
    if stamp.is_file() and stamp.read_text() == wanted:
        return NATIVE
    cache = WheelCache(wheel_cache_home())
    fresh = WORK / "native.new"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    with LOG.open("w", buffering=1) as log:
        for name in SOURCE_ONLY:
            wheel = cache.find(keys[name]) or cache.keep(keys[name], compile_wheel(pins[name], log))
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(fresh)
    _drop_engine(fresh / "llama_cpp", pins["llama-cpp-python"].version)
    (fresh / stamp.name).write_text(wanted)
    shutil.rmtree(NATIVE, ignore_errors=True)
    fresh.rename(NATIVE)
    return NATIVE


def _drop_engine(package: Path, version: str) -> None:
    for path in package.iterdir():
        if path.is_dir() and path.name not in BINDINGS:
            shutil.rmtree(path)
        elif path.name not in BINDINGS:
            path.unlink()
    (package / "__init__.py").write_text(f'__version__ = "{version}"\n')


def native_keys(pins: Mapping[str, Pin], environ: Mapping[str, str]) -> Keys:
    """Per package the key of its wheel: the lock's pin and all that decides what the compiler makes of it."""
    settings = build_settings({key: value for key, value in environ.items() if key in ("CC", "CXX")})
    settings |= {
        "cpu": "any x86-64",
        "cmake": shlex.join(CMAKE_OPTIONS).replace(str(ROOT), ""),
        "portable": file_sha256(PORTABLE_CMAKE),
        "epoch": SOURCE_DATE_EPOCH,
    }
    return {name: wheel_key(pins[name], settings) for name in SOURCE_ONLY}


def compile_wheel(pin: Pin, log: TextIO) -> Path:
    """Fetch the locked source and compile it. Raises SetupError."""
    scratch = WORK / "native-build"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    lock = scratch / "pin.txt"
    lock.write_text(render([pin]))
    pip: list[str | Path] = [VENV_PYTHON, "-m", "pip"]
    fetch = [
        *pip,
        "download",
        "--require-hashes",
        "--no-deps",
        "--no-binary",
        ":all:",
        "--no-build-isolation",
    ]
    fetch += ["--progress-bar", "raw", "-d", scratch / "source", "-r", lock]
    _run(f"{pin.name}: fetching the source", fetch, log, PipReader(1))
    build = [*pip, "wheel", "-v", "--no-cache-dir", "--no-deps", "--no-build-isolation", "--no-index"]
    build += ["-w", scratch / "built", *(scratch / "source").iterdir()]
    _run(f"{pin.name}: compiling for every processor", build, log, NinjaReader())
    return next((scratch / "built").glob("*.whl"))


def _run(label: str, command: list[str | Path], log: TextIO, reader: LineReader) -> None:
    progress = Progress(sys.stdout, f"  {label}")
    env = {key: value for key, value in os.environ.items() if key not in _OVERRIDING_VARIABLES}
    env |= {
        "CMAKE_ARGS": shlex.join(CMAKE_OPTIONS),
        "HNSWLIB_NO_NATIVE": "1",
        "SOURCE_DATE_EPOCH": SOURCE_DATE_EPOCH,
        "PYTHONHASHSEED": "0",
        "PATH": f"{VENV / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_INPUT": "1",
        "PYTHONUNBUFFERED": "1",
    }
    run_tool(command, name=label, log=log, progress=progress, read_line=reader, env=env, cwd=ROOT)
    progress.finish()


def main() -> int:
    """Exit status: 0 made, 1 failed with a reason."""
    try:
        print(ensure_native())
    except SetupError as error:
        sys.stderr.write(report(error, str(LOG)))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
