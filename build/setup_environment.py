"""Owns the steps that make .venv what it must be.

Each finished step goes into the stamp, so an interrupted set-up goes on where it stopped and a
complete one is recognised without asking pip. Nothing is fetched but what the locks name by hash:
the packages that exist as source only are compiled by the locked tools, without pip's build
isolation, which would fetch its own.
"""

from __future__ import annotations

import fcntl
import os
import shlex
import shutil
import signal
import sys
import sysconfig
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TextIO

from requirements_lock import Pin, normalise, render
from setup_command import LineReader, run_tool
from setup_failure import Failure, SetupError
from setup_layout import (
    LEAN_CMAKE,
    LOG,
    ROOT,
    SCRATCH,
    STAMP,
    TURNSTILE,
    VENV,
    VENV_PYTHON,
    WORK,
    wheel_cache_home,
)
from setup_needs import (
    CMAKE_OPTIONS,
    SOURCE_ONLY,
    Keys,
    Needs,
    outdated,
    read_needs,
    read_stamp,
    write_stamp,
)
from setup_progress import Progress, duration
from setup_readers import NinjaReader, PipReader, read_nothing
from wheel_cache import WheelCache, file_sha256

# A complete .venv with the developers' tools, the sources and the compiler's temporary files.
NEEDED_DISK_BYTES = 2_000_000_000

# Settings that would send pip's files elsewhere than into .venv, or its questions to a person.
_MISLEADING_VARIABLES = (
    "PIP_TARGET",
    "PIP_PREFIX",
    "PIP_ROOT",
    "PIP_USER",
    "PIP_EDITABLE",
    "PIP_REQUIREMENT",
    "PIP_CONSTRAINT",
    "PYTHONHOME",
    "PYTHONPATH",
)

Command = list[str | Path]


def ensure_environment(*, dev: bool) -> None:
    """Make .venv fit to serve, or with `dev` to test as well; nothing to do costs milliseconds.

    Raises SetupError.
    """
    needs = read_needs(dev=dev)
    if not outdated(needs.keys, read_stamp()):
        return
    WORK.mkdir(exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with turnstile(), LOG.open("w", buffering=1) as log:
        stamp = read_stamp()
        steps = outdated(needs.keys, stamp)
        if steps:
            started = time.monotonic()
            _Setup(needs, {} if "root" in steps else stamp, log).take(steps)
            print(f"Set-up is complete ({duration(time.monotonic() - started)}).", flush=True)


class _Setup:
    """One run of the steps."""

    def __init__(self, needs: Needs, stamp: Keys, log: TextIO) -> None:
        self._needs = needs
        self._stamp = stamp
        self._log = log
        self._cache = WheelCache(wheel_cache_home())

    def take(self, steps: set[str]) -> None:
        native = [name for name in SOURCE_ONLY if name in steps]
        to_compile = [name for name in native if self._cache.find(self._needs.keys[name]) is None]
        _refuse_full_disk()
        _refuse_missing_tools(to_compile)
        work = ", most of it compiling llama.cpp for this processor" if SOURCE_ONLY[0] in to_compile else ""
        print(f"Setting up {VENV.name}{work}. All output: {LOG.relative_to(ROOT)}", flush=True)
        shutil.rmtree(SCRATCH, ignore_errors=True)
        SCRATCH.mkdir(parents=True)
        if not steps.isdisjoint({"python", "root"}):
            self._make_venv()
        if "packages" in steps:
            self._install_packages()
        for name in native:
            self._install_compiled(name)
        if "dev" in steps:
            self._install_dev()
        if "project" in steps:
            self._install_project()
        self._remove_unlocked()
        self._check()
        shutil.rmtree(SCRATCH)

    def _done(self, *keys: str) -> None:
        self._stamp = self._stamp | {key: self._needs.keys[key] for key in keys}
        write_stamp(self._stamp)

    def _make_venv(self) -> None:
        shutil.rmtree(VENV, ignore_errors=True)
        make: Command = [sys.executable, "-m", "venv"]
        if find_spec("ensurepip") is not None:
            make, installer = [*make, VENV], _pip()
        elif find_spec("pip") is not None:
            # Debian's own Python has venv but, without the package python3-venv, not ensurepip.
            make = [*make, "--without-pip", VENV]
            installer = [sys.executable, "-m", "pip", "--python", VENV_PYTHON]
        else:
            raise SetupError(
                Failure(
                    "This Python cannot fill a virtual environment.",
                    "On Debian: apt-get install python3-venv",
                )
            )
        self._run("The making of .venv", make, label="virtual environment")
        pip_file = _requirements("pip", [self._needs.pins["pip"]])
        command = [*installer, "install", "--require-hashes", "--no-deps", "--only-binary", ":all:"]
        self._run("The installation of pip", [*command, "-r", pip_file], label="pip")
        self._done("python", "root")

    def _install_packages(self) -> None:
        pins = [pin for pin in self._needs.pins.values() if pin.name not in SOURCE_ONLY]
        self._install_wheels("packages", pins)

    def _install_dev(self) -> None:
        self._install_wheels("dev", list(self._needs.dev_pins.values()))

    def _install_wheels(self, key: str, pins: list[Pin]) -> None:
        # The lock is complete, so nothing is left for pip to resolve (--no-deps), and nothing but
        # wheels may come (--only-binary): a source would be built with tools that no lock names.
        command = _pip("install", "--require-hashes", "--no-deps", "--only-binary", ":all:")
        command += ["--progress-bar", "raw", "-r", _requirements(key, pins)]
        label = "packages" if key == "packages" else "tools for tests and checks"
        self._run(f"The installation of the {label}", command, label=label, reader=PipReader(len(pins)))
        self._done(key)

    def _install_compiled(self, name: str) -> None:
        wheel = self._cache.find(self._needs.keys[name]) or self._compile(name)
        file = SCRATCH / f"{name}-wheel.txt"
        file.write_text(f"{name} @ {wheel.as_uri()} --hash=sha256:{file_sha256(wheel)}\n")
        command = _pip(
            "install", "--require-hashes", "--no-deps", "--no-index", "--force-reinstall", "-r", file
        )
        self._run(f"The installation of {name}", command, label=f"{name}: installing")
        self._done(name)

    def _compile(self, name: str) -> Path:
        source, built = SCRATCH / f"{name}-source", SCRATCH / f"{name}-built"
        fetch = _pip("download", "--require-hashes", "--no-deps", "--no-binary", ":all:")
        fetch += ["--no-build-isolation", "--progress-bar", "raw", "-d", source]
        fetch += ["-r", _requirements(name, [self._needs.pins[name]])]
        self._run(f"The download of {name}", fetch, label=f"{name}: fetching the source", reader=PipReader(1))
        # The source lies here and was checked. pip's own cache must not keep the wheel: see wheel_cache.
        build = _pip("wheel", "-v", "--no-cache-dir", "--no-deps", "--no-build-isolation", "--no-index")
        build += ["-w", built, *source.iterdir()]
        self._run(f"The compilation of {name}", build, label=f"{name}: compiling", reader=NinjaReader())
        return self._cache.keep(self._needs.keys[name], next(built.glob("*.whl")))

    def _install_project(self) -> None:
        command = _pip("install", "--no-deps", "--no-build-isolation", "--no-index", "-e", ROOT)
        self._run("The installation of hearth itself", command, label="the command 'hearth'")
        self._done("project")

    def _remove_unlocked(self) -> None:
        locked = {*self._needs.pins, "hearth", *(self._needs.dev_pins if "dev" in self._stamp else ())}
        found = VENV.glob("lib/python*/site-packages/*.dist-info")
        unlocked = sorted({normalise(path.name.split("-")[0]) for path in found} - locked)
        if unlocked:
            label = f"removing what is no longer locked: {', '.join(unlocked)}"
            self._run("The removal of old packages", _pip("uninstall", "-y", *unlocked), label=label)

    def _check(self) -> None:
        try:
            self._run("The check of the installed packages", _pip("check"), label="checking")
        except SetupError as error:
            # The steps are right, so .venv was changed by hand: without its stamp it is made anew.
            STAMP.unlink()
            failure = Failure("The packages in .venv do not agree.", "Run it again to make .venv anew.")
            raise SetupError(failure, error.log_tail) from error

    def _run(self, name: str, command: Command, *, label: str, reader: LineReader = read_nothing) -> None:
        progress = Progress(sys.stdout, f"  {label}")
        run_tool(
            command,
            name=name,
            log=self._log,
            progress=progress,
            read_line=reader,
            env=tool_environment(os.environ),
            cwd=ROOT,
        )
        progress.finish()


def _pip(*arguments: str | Path) -> Command:
    return [VENV_PYTHON, "-m", "pip", *arguments]


def _requirements(name: str, pins: list[Pin]) -> Path:
    path = SCRATCH / f"{name}.txt"
    path.write_text(render(pins))
    return path


def tool_environment(environ: Mapping[str, str]) -> dict[str, str]:
    env = {key: value for key, value in environ.items() if key not in _MISLEADING_VARIABLES}
    ours = shlex.join([*CMAKE_OPTIONS, f"-DCMAKE_PROJECT_llama_cpp_INCLUDE={LEAN_CMAKE}"])
    return env | {
        # The person's own options come last, and the last one wins.
        "CMAKE_ARGS": f"{ours} {environ.get('CMAKE_ARGS', '')}".strip(),
        "PATH": f"{VENV / 'bin'}{os.pathsep}{environ.get('PATH', os.defpath)}",
        "VIRTUAL_ENV": str(VENV),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_INPUT": "1",
        "PYTHONUNBUFFERED": "1",
    }


def _refuse_full_disk() -> None:
    free = shutil.disk_usage(ROOT).free
    if free < NEEDED_DISK_BYTES:
        needed = f"{NEEDED_DISK_BYTES / 1e9:.0f} GB"
        cause = f"The disk under {ROOT} has {free / 1e9:.1f} GB free; set-up needs {needed}."
        raise SetupError(Failure(cause, "Free some space, then run it again."))


def _refuse_missing_tools(to_compile: list[str]) -> None:
    if not to_compile:
        return
    tools = {"gcc": os.environ.get("CC", "cc"), "g++": os.environ.get("CXX", "c++"), "cmake": "cmake"}
    missing = [package for package, tool in tools.items() if shutil.which(shlex.split(tool)[0]) is None]
    if "hnswlib" in to_compile and not Path(sysconfig.get_path("include"), "Python.h").is_file():
        missing.append("python3-dev")
    if missing:
        cause = f"To compile {' and '.join(to_compile)}, this machine lacks: {', '.join(missing)}."
        raise SetupError(Failure(cause, f"On Debian: apt-get install {' '.join(missing)}"))


@contextmanager
def turnstile() -> Iterator[None]:
    """Let one set-up of this directory through at a time; a second one waits."""
    with TURNSTILE.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Another set-up is at work here; waiting for it …", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
