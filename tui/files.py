"""Files of this machine that the UI writes: never over another, never half, private where they should be."""

from __future__ import annotations

import os
from pathlib import Path

PRIVATE = 0o600


def write_new(path: Path, text: str, *, is_private: bool = False) -> None:
    """`~` is the home. Raises OSError, FileExistsError too: what is there stays as it is."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(path.expanduser(), flags, PRIVATE if is_private else 0o666)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


def append_line(path: Path, line: str) -> None:
    """At the end of the file, which is made if there is none. Raises OSError."""
    with path.expanduser().open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")


def replace_private(path: Path, content: bytes) -> None:
    """The whole content or the one before. Only this user reads it. Raises OSError."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}.partial")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, PRIVATE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise
