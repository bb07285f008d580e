"""The files of an audit log: which there are, what each begins with, and reading them in order.

A file is named by the number of its first line. Knows nothing of keys.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from appliance.errors import SetupError

KEY_BYTES = 32
HEAD = "head"
KEY = "key"
TAIL_BYTES = 4 * 1024 * 1024  # more than any line has


class LogFile(NamedTuple):
    path: Path
    first: int


def log_files(directory: Path) -> list[LogFile]:
    """In the order of their lines."""
    found = []
    for path in directory.glob("audit-*.jsonl"):
        number = path.stem.removeprefix("audit-")
        if number.isdecimal():
            found.append(LogFile(path, int(number)))
    return sorted(found, key=lambda file: file.first)


def log_path(directory: Path, first: int) -> Path:
    return directory / f"audit-{first:012}.jsonl"


def lines_of(path: Path) -> Iterator[bytes]:
    """Whole lines without their newline; what follows the last newline is still being written, or torn."""
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield line[:-1]


def last_line(path: Path) -> tuple[bytes, int]:
    """The last whole line, and where the file's whole lines end. Empty for a file without one."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        begin = max(0, size - TAIL_BYTES)
        file.seek(begin)
        tail = file.read()
    end = tail.rfind(b"\n")
    if end < 0:
        return b"", 0 if begin == 0 else size
    start = tail.rfind(b"\n", 0, end) + 1
    return tail[start:end], begin + end + 1


def read_key(path: Path, *, make: bool = False) -> bytes:
    """The log's key: 64 hexadecimal digits. `make`: a fresh one where there is none. Raises SetupError."""
    try:
        if make and not path.exists():
            _make_key(path)
        key = bytes.fromhex(path.read_text("ascii").strip())
    except FileNotFoundError as error:
        raise SetupError(f"the audit log's key {path} is not there") from error
    except (OSError, ValueError) as error:
        raise SetupError(f"the audit log's key {path} cannot be used: {error}") from error
    if len(key) != KEY_BYTES:
        raise SetupError(f"the audit log's key {path} has {len(key)} bytes in hexadecimal, not {KEY_BYTES}")
    return key


def _make_key(path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(os.urandom(KEY_BYTES).hex() + "\n")
        file.flush()
        os.fsync(file.fileno())
