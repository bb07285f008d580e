"""A byte range of one regular file: a whole model file, or one carried inside an executable.

Reads go through `pread`, never through a mapping: a stick pulled out mid-read is then an OSError and
not a SIGBUS that ends the process. Knows no format.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from models.errors import MalformedModel

_CHUNK = 1 << 20


class Extent(msgspec.Struct, frozen=True):
    """Where a model file's bytes lie: `length` bytes of `path` from offset `start`."""

    path: Path
    start: int
    length: int

    @classmethod
    def whole(cls, path: Path) -> Extent:
        """All of the file as it is now. Raises OSError."""
        return cls(path, 0, path.stat().st_size)

    @property
    def parts(self) -> tuple[Path, int, int]:
        """Its fields, as `Region` takes them."""
        return self.path, self.start, self.length


class Region:
    """An open extent. `label` names the file in errors."""

    def __init__(
        self, path: Path, start: int = 0, length: int | None = None, *, follow_links: bool = True
    ) -> None:
        """Raises MalformedModel when `path` is no regular file or does not hold the range.

        Also OSError, as open does.
        """
        self.label = path.name
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow_links else os.O_NOFOLLOW)
        try:
            self._fd = os.open(path, flags)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise MalformedModel(self.label, f"{path} is a link; copy the file it points at") from error
            raise
        try:
            status = os.fstat(self._fd)
            if not stat.S_ISREG(status.st_mode):
                raise MalformedModel(self.label, "is not a regular file")
            available = status.st_size - start
            if start < 0 or available < 0 or (length is not None and not 0 <= length <= available):
                raise MalformedModel(
                    self.label,
                    f"has {status.st_size} bytes, too few for the range at {start} of {length} bytes",
                )
        except BaseException:
            os.close(self._fd)
            raise
        self.start = start
        self.length = available if length is None else length

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        os.close(self._fd)

    def read(self, offset: int, count: int) -> bytes:
        """Exactly `count` bytes at `offset` of the region.

        Raises MalformedModel when the region ends before them, also when the file shrank meanwhile.
        """
        if offset < 0 or count < 0 or offset + count > self.length:
            raise MalformedModel(
                self.label, f"ends at byte {self.length}, inside a field at {offset} of {count} bytes"
            )
        pieces: list[bytes] = []
        while count:
            piece = os.pread(self._fd, count, self.start + offset)
            if not piece:
                raise MalformedModel(self.label, "shrank while it was being read")
            pieces.append(piece)
            offset += len(piece)
            count -= len(piece)
        return b"".join(pieces)

    def chunks(self) -> Iterator[bytes]:
        """All its bytes, a mebibyte at a time. Raises MalformedModel when the region shrinks meanwhile."""
        for offset in range(0, self.length, _CHUNK):
            yield self.read(offset, min(_CHUNK, self.length - offset))

    def sha256(self, advance: Callable[[int], None] = lambda _: None) -> str:
        """Of all its bytes, in hex; `advance` hears of every chunk's size."""
        digest = hashlib.sha256()
        for chunk in self.chunks():
            digest.update(chunk)
            advance(len(chunk))
        return digest.hexdigest()
