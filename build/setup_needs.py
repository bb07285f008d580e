"""Owns what .venv must hold, as keys that change when it must change, and what it holds, as a stamp.

A key per step: ``python`` and ``root`` (else .venv is made anew), ``packages``, one per compiled
package, ``dev``, ``project``. Knows nothing of how a step is taken.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from requirements_lock import LockError, Pin, read_lock
from setup_failure import Failure, SetupError
from setup_layout import DEV_LOCK, LEAN_CMAKE, MASKED_CELLS, ROOT, RUN_LOCK, STAMP, VENV_PYTHON
from wheel_cache import cpu_fingerprint, file_sha256, wheel_key

# Released as source only. They are compiled here, for this processor.
SOURCE_ONLY = ("llama-cpp-python", "hnswlib")

# GGML_NATIVE: every instruction this processor has. LLAVA_BUILD: we serve text, not pictures.
CMAKE_OPTIONS = ("-DGGML_NATIVE=ON", "-DLLAVA_BUILD=OFF")

# What a compiler reads from the environment: other settings make another wheel.
_COMPILER_VARIABLES = (
    "CC",
    "CXX",
    "CFLAGS",
    "CXXFLAGS",
    "CPPFLAGS",
    "LDFLAGS",
    "CMAKE_ARGS",
    "HNSWLIB_NO_NATIVE",
)

Keys = dict[str, str]


@dataclass(frozen=True)
class Needs:
    """The locks' pins by name, and the keys that a complete .venv has in its stamp."""

    pins: Mapping[str, Pin]
    dev_pins: Mapping[str, Pin]
    keys: Keys


def read_needs(*, dev: bool) -> Needs:
    """What .venv must hold to serve, or with `dev` to test as well. Raises SetupError on a bad lock."""
    pins, dev_pins = _read_pins(RUN_LOCK), _read_pins(DEV_LOCK)
    settings = build_settings(os.environ)
    keys = {
        "python": _python_tag(),
        "root": str(ROOT),
        "packages": file_sha256(RUN_LOCK),
        **{name: wheel_key(pins[name], settings) for name in SOURCE_ONLY},
        "project": _project_key(),
    }
    if dev:
        keys["dev"] = file_sha256(DEV_LOCK)
    return Needs(pins, dev_pins, keys)


def build_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """Everything beside its source that decides what a compiled wheel contains and where it runs."""
    return {
        "cpu": cpu_fingerprint(_text_if_there(Path("/proc/cpuinfo")), platform.machine()),
        "libc": "-".join(platform.libc_ver()),
        "python": _python_tag(),
        "cmake": " ".join(CMAKE_OPTIONS),
        "lean": file_sha256(LEAN_CMAKE),
        **{path.name: file_sha256(path) for path in MASKED_CELLS},
        **{name: environ.get(name, "") for name in _COMPILER_VARIABLES},
    }


def read_stamp() -> Keys:
    """The keys of the steps that .venv has behind it; none if it cannot run at all."""
    if not os.access(VENV_PYTHON, os.X_OK):
        return {}
    try:
        stamp = json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def write_stamp(keys: Keys) -> None:
    """Replace the stamp in one step, so that an interruption leaves the old one or the new one."""
    fresh = STAMP.with_suffix(".new")
    fresh.write_text(json.dumps(keys, indent=1) + "\n")
    fresh.replace(STAMP)


def outdated(wanted: Keys, stamp: Keys) -> set[str]:
    """The keys whose steps are to be taken; all of them if .venv itself is another place's or Python's."""
    if any(stamp.get(key) != wanted[key] for key in ("python", "root")):
        return set(wanted)
    return {key for key, value in wanted.items() if stamp.get(key) != value}


def _read_pins(path: Path) -> dict[str, Pin]:
    try:
        return {pin.name: pin for pin in read_lock(path.read_text())}
    except (OSError, LockError) as error:
        raise SetupError(
            Failure(f"{path.name} cannot be used: {error}", "Restore the file, or make it with: make lock")
        ) from error


def _project_key() -> str:
    # What an editable install writes: name, version, commands, the list of packages.
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    facts = [project["build-system"], project["project"], project["tool"]["hatch"]]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _python_tag() -> str:
    return f"{sys.implementation.cache_tag}-{platform.machine()}"


def _text_if_there(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
