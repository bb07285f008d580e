"""Owns the reading of a lock file: which package, which version, which hashes.

Knows nothing of installing. The format is the subset of pip's requirements files that the lock
command writes: ``name==version`` followed by ``--hash=sha256:…``, joined by backslashes. Anything
else, above all an index address, is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_PIN = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[A-Za-z0-9.!+_-]+)")
_HASH = re.compile(r"--hash=sha256:(?P<digest>[0-9a-f]{64})")


class LockError(ValueError):
    """A lock file holds a line that this module does not know."""


@dataclass(frozen=True)
class Pin:
    """One locked package; `name` is normalised, `hashes` are the hex SHA-256 of its files, sorted."""

    name: str
    version: str
    hashes: tuple[str, ...]

    def line(self) -> str:
        """The pin as one line of a requirements file."""
        return " ".join([f"{self.name}=={self.version}", *(f"--hash=sha256:{h}" for h in self.hashes)])


def normalise(name: str) -> str:
    """A package name in the form that two spellings of it share (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_lock(text: str) -> tuple[Pin, ...]:
    """The pins of a lock file's text, in its order. Raises LockError."""
    pins: dict[str, Pin] = {}
    for line in text.replace("\\\n", " ").splitlines():
        words = line.partition("#")[0].split()
        if not words:
            continue
        pin = _read_pin(words)
        if pin.name in pins:
            raise LockError(f"{pin.name} is locked twice; remove one of the two lines")
        pins[pin.name] = pin
    return tuple(pins.values())


def _read_pin(words: list[str]) -> Pin:
    head = _PIN.fullmatch(words[0])
    if head is None:
        raise LockError(f"'{words[0]}' is not of the form name==version")
    hashes = []
    for word in words[1:]:
        match = _HASH.fullmatch(word)
        if match is None:
            raise LockError(f"'{word}' after {words[0]} is not of the form --hash=sha256:<64 hex digits>")
        hashes.append(match["digest"])
    if not hashes:
        raise LockError(f"{words[0]} has no --hash=sha256:…; make the lock again with 'make lock'")
    return Pin(normalise(head["name"]), head["version"], tuple(sorted(hashes)))


def render(pins: Iterable[Pin]) -> str:
    """The text of a requirements file with these pins."""
    return "".join(f"{pin.line()}\n" for pin in pins)
