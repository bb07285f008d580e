"""One file on its way into the store: an append-only prefix, hashed as it grows.

`partial/<sha256>` survives a broken download and is continued by any source, since every source delivers
the same pinned bytes. A file that turns out wrong is deleted. Knows no source and no manifest.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from models.disk import full_disk_as_error, sync_directory
from models.errors import HashMismatch, StoreFull

_CHUNK = 1 << 20


class Partial:
    """`size` bytes of a file that must become `expected_bytes` bytes with digest `sha256`.

    With `sha256` None any content will do.
    """

    def __init__(self, path: Path, label: str, expected_bytes: int, sha256: str | None) -> None:
        """Opens what is there and hashes it; a prefix that is already too long is dropped."""
        self.path = path
        self.label = label
        self.expected_bytes = expected_bytes
        self.sha256 = sha256
        self.size = 0
        self._hash = hashlib.sha256()
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._file = os.fdopen(os.open(path, flags, 0o644), "r+b", buffering=0)
        try:
            if os.fstat(self._file.fileno()).st_size > expected_bytes:
                self.restart()
            while chunk := self._file.read(_CHUNK):
                self._hash.update(chunk)
                self.size += len(chunk)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Keeps what has arrived, for another try; nothing at all is not kept."""
        self._file.close()
        if not self.size:
            self.path.unlink(missing_ok=True)

    @property
    def missing(self) -> int:
        """Bytes still to come."""
        return self.expected_bytes - self.size

    def write(self, data: bytes | memoryview, source: str) -> None:
        """Appends `data`. Raises HashMismatch past the expected size and StoreFull; both delete the file."""
        if len(data) > self.missing:
            self.discard()
            raise HashMismatch(
                self.label, self.sha256 or "any", f"more than {self.expected_bytes:,} bytes", source
            )
        try:
            with full_disk_as_error(self.path.parent, self.missing):
                rest = memoryview(data)
                while rest:
                    rest = rest[self._file.write(rest) :]
        except StoreFull:
            self.discard()
            raise
        self._hash.update(data)
        self.size += len(data)

    def restart(self) -> None:
        """Forgets what has arrived."""
        self._file.seek(0)
        self._file.truncate()
        self.size = 0
        self._hash = hashlib.sha256()

    def discard(self) -> None:
        self.restart()
        self.path.unlink(missing_ok=True)

    def check(self, source: str) -> str:
        """The digest of the complete file. Raises HashMismatch, leaving nothing behind."""
        digest = self._hash.hexdigest()
        if self.missing or (self.sha256 is not None and digest != self.sha256):
            actual = digest if not self.missing else f"only {self.size:,} of {self.expected_bytes:,} bytes"
            expected = self.sha256 or "any"
            self.discard()
            raise HashMismatch(self.label, expected, actual, source)
        return digest

    def commit(self, target: Path, source: str) -> None:
        """Verify, sync, rename to `target`, sync its directory. Raises HashMismatch and StoreFull."""
        self.check(source)
        with full_disk_as_error(self.path.parent, self.expected_bytes):
            os.fchmod(self._file.fileno(), 0o444)
            os.fsync(self._file.fileno())
        self.path.replace(target)
        sync_directory(target.parent)


def remove_quietly(path: Path) -> None:
    """Removes a leftover that may already be gone."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
