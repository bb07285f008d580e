"""What a backup says of itself, and which files of a home belong into one.

A backup is a tar without compression; its last member, `manifest.json`, lists every other with size and
SHA-256. Whatever is not listed is not in it, and a tar without its last member is no backup.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Literal

from msgspec import Struct

from appliance.errors import InvalidValue

FORMAT = 1
MANIFEST = "manifest.json"
MODELS = "models"
DATABASE_SUFFIX = ".db"
# Made again by themselves, of this machine's moment only, or backups themselves.
_LEFT_OUT = re.compile(
    r"\A(address|cache|backups|before-restore-.*|\.restore.*|\.backup.*|knowledge/graphs|models/partial.*)(/|\Z)"
)
_LEFT_OUT_NAMES = re.compile(r"\A(lock|.*\.lock|.*-wal|.*-shm|.*-journal|.*\.partial|.*\.pid)\Z")
_NAME = re.compile(r"\A[^/\0]+(/[^/\0]+)*\Z")


class Entry(Struct, frozen=True, kw_only=True):
    """`steps`: of migration that a database has taken."""

    path: str
    kind: Literal["file", "database"]
    size: int
    sha256: str
    mode: int
    steps: int = 0


class Manifest(Struct, frozen=True, kw_only=True):
    """`created_at`: seconds since the epoch; `models`: whether the model files are in it."""

    format: int
    version: str
    created_at: float
    models: bool
    entries: tuple[Entry, ...]


def checked_name(name: str) -> str:
    """A path within a home as a backup may name it. Raises InvalidValue for one that leads out of it."""
    parts = PurePosixPath(name).parts
    if not _NAME.match(name) or ".." in parts or "." in name.split("/") or name.startswith("/"):
        raise InvalidValue(f"the backup names {name[:200]!r}, which is no path within a home")
    return name


def files_of(home: Path, *, models: bool) -> Iterator[str]:
    """The paths within `home` of all files that belong into a backup, in their order."""
    yield from _walk(home, "", models=models)


def _walk(home: Path, below: str, *, models: bool) -> Iterator[str]:
    try:
        children = sorted((home / below).iterdir())
    except FileNotFoundError:  # it has gone meanwhile
        return
    for child in children:
        name = f"{below}/{child.name}" if below else child.name
        if _LEFT_OUT.match(name) or _LEFT_OUT_NAMES.match(child.name):
            continue
        if name == MODELS and not models:
            continue
        if child.is_symlink() and name != MODELS:
            continue  # nothing that Hearth makes; what it leads to is not ours
        if child.is_dir():
            yield from _walk(home, name, models=models)
        elif child.is_file():
            yield name


def roots(entries: Iterator[Entry] | tuple[Entry, ...]) -> set[str]:
    """The top names of a home that a backup fills."""
    return {entry.path.partition("/")[0] for entry in entries}
