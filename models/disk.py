"""Durable file steps: sync a file's directory, replace a small file whole, measure and guard free space."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from models.errors import StoreFull

UNFINISHED = ".new-"  # begins the names of files that replace_file has not finished

_RESERVE = 16 << 20  # bytes left free for everybody else
_FULL = (errno.ENOSPC, errno.EDQUOT)


def free_bytes(directory: Path) -> int:
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize


def require_free(directory: Path, needed: int) -> None:
    """Raises StoreFull unless `needed` bytes and a reserve of 16 MiB are free."""
    free = free_bytes(directory)
    if needed + _RESERVE > free:
        raise StoreFull(directory, needed + _RESERVE, free)


@contextlib.contextmanager
def full_disk_as_error(directory: Path, needed: int) -> Iterator[None]:
    """Turns a write that found no space into StoreFull."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StoreFull(directory, needed, free_bytes(directory)) from error
        raise


def sync_directory(directory: Path) -> None:
    """Makes renames and removals in `directory` durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, content: bytes) -> None:
    """Writes `path` whole or not at all, durably. Raises StoreFull."""
    with full_disk_as_error(path.parent, len(content)):
        descriptor, temporary = tempfile.mkstemp(prefix=UNFINISHED, dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fchmod(file.fileno(), 0o644)
                os.fsync(file.fileno())
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    sync_directory(path.parent)
