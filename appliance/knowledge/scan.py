"""What lies in a folder: plain files, by their path, size and time of change. Pure but for looking.

Links are not followed, so no loop can be entered and nothing outside the folder is read. Sockets, pipes and
devices are no documents. Hidden files, and those that editors and downloads leave for a moment, are left out.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PASSING = (".tmp", ".temp", ".part", ".partial", ".crdownload", ".download", ".swp", ".swx", ".lock", "~")
MOST_FILES = 200_000
PIECE = 1024 * 1024


class Seen(NamedTuple):
    """A file as it was looked at: bytes, and nanoseconds since 1970 of its last change."""

    size: int
    changed: int


def scan(root: Path) -> dict[str, Seen]:
    """The folder's files, by their path within it. Raises OSError when the folder itself cannot be read."""
    found: dict[str, Seen] = {}
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        try:
            entries = sorted(_entries(folder), key=lambda entry: entry.name)
        except OSError:
            if folder == root:
                raise
            continue  # gone, or not ours to read
        for entry in entries:
            try:
                state = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            if stat.S_ISDIR(state.st_mode):
                waiting.append(Path(entry.path))
            elif stat.S_ISREG(state.st_mode) and len(found) < MOST_FILES:
                name = os.path.relpath(entry.path, root)
                if _is_text(name):
                    found[name] = Seen(state.st_size, state.st_mtime_ns)
    return found


def fingerprint(path: Path) -> str:
    """The SHA-256 of the file's content. Raises OSError, also when it has become a link."""
    digest = hashlib.sha256()
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        while piece := file.read(PIECE):
            digest.update(piece)
    return digest.hexdigest()


def look(path: Path) -> Seen | None:
    """The file as it is now; None when it is gone."""
    try:
        state = path.lstat()
    except OSError:
        return None
    return Seen(state.st_size, state.st_mtime_ns)


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        yield from (
            entry
            for entry in entries
            if not entry.name.startswith(".") and not entry.name.lower().endswith(PASSING)
        )


def _is_text(name: str) -> bool:
    """Whether the name can be stored as text at all: a file system allows any bytes."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
