"""What lies in a folder: plain files, by their path, size and time of change. Pure but for looking.

Links are not followed, so no loop can be entered and nothing outside the folder is read. Sockets, pipes and
devices are no documents. Hidden files, and those that editors and downloads leave for a moment, are left out.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

PASSING = (".tmp", ".temp", ".part", ".partial", ".crdownload", ".download", ".swp", ".swx", ".lock", "~")
MOST_FILES = 200_000
PIECE = 1024 * 1024


class Seen(NamedTuple):
    """A file as it was looked at: bytes, and nanoseconds since 1970 of its last change, which is the file
    system's own note (ctime): it covers rights too, and nobody can set it back or ahead."""

    size: int
    changed: int


class Scanned(NamedTuple):
    """A folder's files, by their path within it; the folders in it, itself included; and whether there are
    more files than MOST_FILES."""

    files: dict[str, Seen]
    folders: frozenset[str]
    is_cut: bool


def scan(root: Path) -> Scanned:
    """What is in the folder, at any depth. Raises OSError when the folder itself cannot be read."""
    found: dict[str, Seen] = {}
    folders: set[str] = set()
    is_cut = False
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        try:
            entries = sorted(_entries(folder), key=lambda entry: entry.name)
        except OSError:
            if folder == root:
                raise
            continue  # gone, or not ours to read
        folders.add(str(folder))
        for entry in entries:
            try:
                state = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            if stat.S_ISDIR(state.st_mode):
                waiting.append(Path(entry.path))
            elif stat.S_ISREG(state.st_mode) and not entry.name.lower().endswith(PASSING):
                name = os.path.relpath(entry.path, root)
                is_cut |= len(found) >= MOST_FILES
                if _is_text(name) and not is_cut:
                    found[name] = Seen(state.st_size, state.st_ctime_ns)
    return Scanned(found, frozenset(folders), is_cut)


def fingerprint(path: Path) -> str:
    """The SHA-256 of the file's content. Raises OSError, also when it has become something else."""
    digest = hashlib.sha256()
    with open_plain(path) as file:
        while piece := file.read(PIECE):
            digest.update(piece)
    return digest.hexdigest()


def open_plain(path: Path) -> BinaryIO:
    """The file, if it is a plain one: no link is followed, no pipe waited for. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no plain file", str(path))
    return os.fdopen(descriptor, "rb")


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        yield from (entry for entry in entries if not entry.name.startswith("."))


def _is_text(name: str) -> bool:
    """Whether the name can be stored as text at all: a file system allows any bytes."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
