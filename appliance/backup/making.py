"""Making a backup of a home that may be in use.

Files first, then the databases, then the files that have come since: a database's rows are written after
their files and removed before them, so that what the copied database names is there. Where a file was removed
in between after all, the database is copied again. The result appears under its name whole, or not at all.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO

import msgspec

from appliance.backup.manifest import DATABASE_SUFFIX, FORMAT, MANIFEST, Entry, Manifest, files_of
from appliance.backup.reading import check_backup
from appliance.errors import Conflict, StorageFull, Unavailable
from appliance.store import files as stored_files
from appliance.store.database import check_database, is_database, open_for_reading, snapshot
from appliance.version import VERSION

PIECE = 1 << 20
MOST_ROUNDS = 5
KNOWLEDGE, UPLOADS = "knowledge/knowledge.db", "knowledge/uploads"
AUDIT_HEAD = "audit/head"  # before the lines: a log may be ahead of its head, never behind
Progress = Callable[[str, int], None]  # a file's path, bytes so far


def make_backup(
    home: Path, target: Path, *, models: bool = False, progress: Progress = lambda path, size: None
) -> Manifest:
    """A backup of `home` at `target`, durable and read back when this returns.

    Raises Conflict when `target` is there, StorageFull, InternalError for a damaged database, Unavailable
    when files change faster than they can be copied.
    """
    if target.exists():
        raise Conflict(f"{target} is there already; give another name")
    partial = target.with_name(f".{target.name}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        check_room(home, target.parent, models=models)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".backup-") as work:
            descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "w+b") as file:
                manifest = _Making(home, file, Path(work), models=models, progress=progress).run()
                file.flush()
                os.fsync(file.fileno())
        check_backup(partial)
        partial.rename(target)
        _sync_directory(target.parent)
    except OSError as error:
        raise StorageFull(f"the backup {target} could not be written: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)
    return manifest


class _Making:
    def __init__(self, home: Path, file: BinaryIO, work: Path, *, models: bool, progress: Progress) -> None:
        self._home, self._work, self._models, self._progress = home, work, models, progress
        self._tar = tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115
        self._entries: dict[str, Entry] = {}

    def run(self) -> Manifest:
        with self._tar:
            self._add_files([AUDIT_HEAD])
            self._add_files(self._plain())
            databases = self._snapshots()
            for name, copy in databases.items():
                steps = check_database(copy)
                self._add(name, copy, kind="database", steps=steps)
            manifest = Manifest(
                format=FORMAT,
                version=VERSION,
                created_at=time.time(),
                models=self._models,
                entries=tuple(self._entries.values()),
            )
            content = msgspec.json.encode(manifest)
            info = tarfile.TarInfo(MANIFEST)
            info.size, info.mode, info.mtime = len(content), 0o600, int(manifest.created_at)
            self._tar.addfile(info, io.BytesIO(content))
        return manifest

    def _plain(self) -> list[str]:
        return [name for name in files_of(self._home, models=self._models) if not self._is_database(name)]

    def _is_database(self, name: str) -> bool:
        if not name.endswith(DATABASE_SUFFIX):
            return False
        try:
            return is_database(self._home / name)
        except FileNotFoundError:
            return False

    def _snapshots(self) -> dict[str, Path]:
        """Copies of all databases; all that the knowledge base's names is among the files then."""
        names = [name for name in files_of(self._home, models=False) if self._is_database(name)]
        for number in range(MOST_ROUNDS):
            copies = {}
            for index, name in enumerate(names):
                copies[name] = self._work / f"{number}-{index}.db"
                snapshot(self._home / name, copies[name])
            self._add_files(self._plain())
            if self._has_all_uploads(copies.get(KNOWLEDGE)):
                return copies
            for copy in copies.values():
                copy.unlink()
        raise Unavailable("files come and go faster than they can be copied; try again later", retry_after=10)

    def _has_all_uploads(self, database: Path | None) -> bool:
        if database is None:
            return True
        with open_for_reading(database) as connection:
            ids = stored_files.all_ids(connection)
        return all(f"{UPLOADS}/{id}" in self._entries for id in ids)

    def _add_files(self, names: Iterable[str]) -> None:
        for name in names:
            if name not in self._entries:
                try:
                    self._add(name, self._home / name, kind="file")
                except FileNotFoundError:
                    continue  # it has gone meanwhile

    def _add(self, name: str, path: Path, *, kind: str, steps: int = 0) -> None:
        """The file as long as it is now: what is appended meanwhile belongs to the next backup."""
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            info = tarfile.TarInfo(name)
            info.size, info.mode, info.mtime = status.st_size, status.st_mode & 0o777, int(status.st_mtime)
            reader = _Hashed(file, status.st_size, lambda size: self._progress(name, size))
            self._tar.addfile(info, reader)
        self._entries[name] = Entry(
            path=name,
            kind="database" if kind == "database" else "file",
            size=status.st_size,
            sha256=reader.digest.hexdigest(),
            mode=info.mode,
            steps=steps,
        )


class _Hashed:
    """A file of so many bytes, hashed as it is read; one that has become shorter is an error."""

    def __init__(self, file: BinaryIO, size: int, progress: Callable[[int], None]) -> None:
        self._file, self._left, self._progress = file, size, progress
        self._size = size
        self.digest = hashlib.sha256()

    def read(self, count: int = PIECE) -> bytes:
        piece = self._file.read(min(count, self._left))
        if not piece and self._left:
            raise OSError("a file became shorter while it was copied")
        self._left -= len(piece)
        self.digest.update(piece)
        self._progress(self._size - self._left)
        return piece


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def room_needed(home: Path, *, models: bool) -> int:
    """Bytes that a backup takes at most while it is made: its files, and the databases once more."""
    sizes = 0
    for name in files_of(home, models=models):
        try:
            size = (home / name).stat().st_size
        except FileNotFoundError:
            continue
        sizes += 2 * size if name.endswith(DATABASE_SUFFIX) else size
    return sizes


def check_room(home: Path, directory: Path, *, models: bool) -> None:
    """Raises StorageFull where a backup would not fit, with the numbers."""
    needed, free = room_needed(home, models=models), shutil.disk_usage(directory).free
    if needed > free:
        raise StorageFull(f"a backup needs up to {needed} bytes; {directory} has {free} free")
