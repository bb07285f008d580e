"""One writer at a time for a store, across processes: an advisory lock that dies with its holder."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from models.errors import StoreBusy

_RETRY = 0.1  # seconds; flock itself knows no deadline


@contextlib.contextmanager
def exclusive(root: Path, wait: float) -> Iterator[None]:
    """Holds `root/lock`, waiting at most `wait` seconds. Raises StoreBusy naming the holder's process."""
    deadline = time.monotonic() + wait
    descriptor = os.open(root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        while not _acquired(descriptor):
            if time.monotonic() >= deadline:
                raise StoreBusy(root, _holder(descriptor))
            time.sleep(_RETRY)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _acquired(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(descriptor: int) -> str:
    process = os.pread(descriptor, 20, 0).decode(errors="replace")
    return f"process {process}" if process.isdigit() else "another process"
