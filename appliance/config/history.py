"""Every configuration that a server has taken: its text, when, by whom, and what it changed.

One file per version in a directory of the home; a version is written whole or not at all, and never changed.
Several processes may record: a number is taken by whoever links its file first.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from appliance.config.diff import Change
from appliance.errors import ConfigError, NotFound, StorageFull

KEPT = 500  # versions; the oldest go


class Version(Struct, frozen=True, kw_only=True):
    """`text`: hearth.toml as it was; `time`: Unix seconds; `changes`: against the version before."""

    number: int
    time: float
    author: str
    text: str
    changes: tuple[Change, ...] = ()


class History:
    """Raises ConfigError where its directory cannot be read or written."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def versions(self) -> list[Version]:
        """Newest first; a file that is damaged is left out."""
        return list(self._newest_first())

    def _newest_first(self) -> Iterator[Version]:
        for path in sorted(self._paths(), reverse=True):
            with contextlib.suppress(OSError, msgspec.MsgspecError):
                yield msgspec.json.decode(path.read_bytes(), type=Version)

    def latest(self) -> Version | None:
        return next(self._newest_first(), None)

    def get(self, number: int) -> Version:
        """Raises NotFound naming the versions that there are."""
        versions = self.versions()
        for version in versions:
            if version.number == number:
                return version
        known = f"{versions[-1].number} to {versions[0].number}" if versions else "none"
        raise NotFound(f"there is no version {number} of the configuration; there are: {known}")

    def record(self, text: str, author: str, changes: Sequence[Change]) -> Version:
        """A new version; the latest one where that has the same text already."""
        latest = self.latest()
        if latest is not None and latest.text == text:
            return latest
        number = latest.number + 1 if latest else 1
        while True:
            version = Version(
                number=number, time=time.time(), author=author[:200], text=text, changes=tuple(changes)
            )
            if self._write(version):
                break
            number += 1
        for path in sorted(self._paths())[:-KEPT]:
            path.unlink(missing_ok=True)
        return version

    def _paths(self) -> list[Path]:
        return [path for path in self._directory.glob("*.json") if path.stem.isdigit()]

    def _write(self, version: Version) -> bool:
        """False when the number is taken."""
        try:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_whole(
                self._directory / f"{version.number:08}.json", msgspec.json.encode(version), replace=False
            )
        except FileExistsError:
            return False
        return True


def write_whole(path: Path, content: bytes, *, replace: bool = True) -> None:
    """`content` at `path`, whole and on the disk, or nothing. Raises FileExistsError unless it may replace,
    ConfigError or StorageFull where it cannot be written.
    """
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = Path(file.name)
            try:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                if replace:
                    temporary.replace(path)
                else:
                    os.link(temporary, path)
            finally:
                temporary.unlink(missing_ok=True)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except FileExistsError:
        raise
    except OSError as error:
        kind = StorageFull if error.errno in (28, 122) else ConfigError
        raise kind(f"{path} cannot be written: {error.strerror}") from error
