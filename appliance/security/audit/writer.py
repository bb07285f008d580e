"""Appending to the log's files: numbers, chain, sync, rotation, retention, exported checkpoints.

Belongs to one thread; takes no decisions about a disk that is full: an append writes all of its lines or
none, and raises the OSError.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
from msgspec.structs import replace

from appliance.audit import AuditCheckpoint, AuditEntry
from appliance.config.audit import Audit as Settings
from appliance.security.audit.chain import Link, seal
from appliance.security.audit.files import log_files, log_path
from appliance.security.audit.head import Head


class Writer:
    """Goes on from `end`. `close` at the end."""

    def __init__(self, directory: Path, settings: Settings, key: bytes, end: Link, head: Head) -> None:
        self.end = end
        self._directory, self._settings, self._key, self._head = directory, settings, key, head
        self._descriptor: int | None = None
        self._size = 0
        self._checkpointed_at: datetime | None = None
        self._checkpointed = end.seq
        files = log_files(directory)
        if files:
            self._open(files[-1].path)

    def append(self, entries: Sequence[AuditEntry]) -> list[AuditEntry]:
        """The entries as written: with number and place. All are on the disk, or none. Raises OSError."""
        if not entries:
            return []
        end, pieces, written = self.end, [], []
        for entry in entries:
            placed = replace(entry, seq=end.seq + 1, prev=end.mac)
            line, end = seal(self._key, placed)
            pieces.append(line)
            written.append(placed)
        if self._descriptor is None or self._size >= self._settings.file_bytes:
            self._begin_file(written[0].seq)
        assert self._descriptor is not None
        content = b"".join(pieces)
        try:
            _write_whole(self._descriptor, content)
            os.fdatasync(self._descriptor)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
            raise
        self._size += len(content)
        self.end = end
        with contextlib.suppress(OSError):  # it lags behind then, as after a power cut
            self._head.write(self._key, end)
        return written

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        self._head.close()

    # Rotation and retention

    def _begin_file(self, first: int) -> None:
        self._open(log_path(self._directory, first))
        directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def _open(self, path: Path) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor = descriptor
        self._size = os.fstat(descriptor).st_size

    def due_retention(self, now: datetime) -> int:
        """The first line that is to be kept, where files in front of it are too old or too much; else 0.

        A file's age is that of its last write. The file that is being written is never due.
        """
        files = log_files(self._directory)
        sizes = {file.path: file.path.stat() for file in files}
        total = sum(stat.st_size for stat in sizes.values())
        oldest = (now - timedelta(days=self._settings.days)).timestamp()
        kept_from = 0
        for file, following in itertools.pairwise(files):
            stat = sizes[file.path]
            if total <= self._settings.bytes and stat.st_mtime >= oldest:
                break
            total -= stat.st_size
            kept_from = following.first
        return kept_from

    def remove_before(self, first: int) -> None:
        for file in log_files(self._directory):
            if file.first < first:
                file.path.unlink(missing_ok=True)

    # Checkpoints

    def export_checkpoint(self, now: datetime) -> None:
        """Append the chain's end to the configured file, where it is time. Raises OSError."""
        if not self._settings.checkpoint_file or self.end.seq == self._checkpointed:
            return
        if self._checkpointed_at is not None:
            passed = (now - self._checkpointed_at).total_seconds()
            if 0 <= passed < self._settings.checkpoint_seconds:  # less than 0: the clock was set back
                return
        time = now.isoformat(timespec="microseconds")
        checkpoint = AuditCheckpoint(seq=self.end.seq, time=time, mac=self.end.mac)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        descriptor = os.open(Path(self._settings.checkpoint_file).expanduser(), flags, 0o600)
        try:
            _write_whole(descriptor, msgspec.json.encode(checkpoint) + b"\n")
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
        self._checkpointed_at, self._checkpointed = now, self.end.seq


def _write_whole(descriptor: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
