"""Owns the wheels that were compiled on this machine, and under which key each may be used again.

pip's own wheel cache knows a package by its source alone. A wheel compiled with -march=native is
also a matter of the processor and the build settings: on another processor it dies of an illegal
instruction. Knows nothing of pip or of how a wheel is made.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from requirements_lock import Pin

# A wheel of llama-cpp-python has about 7 MB; old processors and old versions leave in order of use.
KEPT_WHEELS = 12

# The lines of /proc/cpuinfo that decide which instructions a compiler may choose: x86, then Arm.
_CPU_FIELDS = frozenset({"vendor_id", "flags", "CPU implementer", "CPU part", "Features"})


def cpu_fingerprint(cpuinfo: str, machine: str) -> str:
    """A short hash of the instruction sets named in the text of /proc/cpuinfo; cores count once."""
    facts = set()
    for line in cpuinfo.splitlines():
        field, _, value = line.partition(":")
        if field.strip() in _CPU_FIELDS:
            facts.add((field.strip(), tuple(sorted(value.split()))))
    return hashlib.sha256(repr((machine, sorted(facts))).encode()).hexdigest()[:16]


def wheel_key(pin: Pin, settings: Mapping[str, str]) -> str:
    """The directory name for wheels of `pin` built under `settings` (processor, flags, Python, libc …)."""
    facts = json.dumps([pin.name, pin.version, pin.hashes, sorted(settings.items())])
    return f"{pin.name}-{pin.version}-{hashlib.sha256(facts.encode()).hexdigest()[:24]}"


def file_sha256(path: Path) -> str:
    """The hex SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class WheelCache:
    """A bounded directory of `<key>/<wheel>` with the wheel's SHA-256 beside it."""

    root: Path

    def find(self, key: str) -> Path | None:
        """The wheel kept under `key`, or None if there is none or its bytes have changed."""
        folder = self.root / key
        wheels = list(folder.glob("*.whl"))
        if len(wheels) != 1:
            return None
        try:
            expected = (folder / "sha256").read_text().strip()
        except OSError:
            return None
        if file_sha256(wheels[0]) != expected:
            return None
        os.utime(folder)
        return wheels[0]

    def keep(self, key: str, wheel: Path) -> Path:
        """Move `wheel` into the cache under `key`, replacing what was there; returns its new path."""
        self.root.mkdir(parents=True, exist_ok=True)
        fresh = self.root / f".{key}.{os.getpid()}"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        kept = Path(shutil.move(wheel, fresh / wheel.name))
        (fresh / "sha256").write_text(file_sha256(kept) + "\n")
        folder = self.root / key
        shutil.rmtree(folder, ignore_errors=True)
        fresh.rename(folder)
        self._forget_oldest()
        return folder / wheel.name

    def _forget_oldest(self) -> None:
        folders = [f for f in self.root.iterdir() if f.is_dir() and not f.name.startswith(".")]
        folders.sort(key=lambda folder: folder.stat().st_mtime, reverse=True)
        for folder in folders[KEPT_WHEELS:]:
            shutil.rmtree(folder, ignore_errors=True)
