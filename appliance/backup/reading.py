"""Reading a backup: what it says of itself, and whether every byte is as it says.

A backup may come from anywhere: names are checked, links and devices refused, nothing is written outside the
directory that is given, and no more bytes than the manifest promises.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, cast

import msgspec

from appliance.backup.manifest import FORMAT, MANIFEST, Entry, Manifest, checked_name
from appliance.errors import InvalidValue, NotFound, StorageFull
from appliance.store.database import check_database

PIECE = 1 << 20
MOST_MANIFEST_BYTES = 512 * 1024 * 1024
Progress = Callable[[str, int], None]


def read_manifest(path: Path) -> Manifest:
    """What the backup says of itself. Raises NotFound, InvalidValue for a file that is no whole backup."""
    with _open(path) as tar:
        return _manifest(tar, path)


def check_backup(path: Path, progress: Progress = lambda path, size: None) -> Manifest:
    """The manifest, after every file was read and found as it says. Raises the same."""
    with _open(path) as tar:
        manifest = _manifest(tar, path)
        for entry, content in _contents(tar, manifest, path):
            _copy(content, entry, None, path)
            progress(entry.path, entry.size)
    return manifest


def extract(path: Path, target: Path, progress: Progress = lambda path, size: None) -> Manifest:
    """All files into the empty directory `target`, found as the manifest says, databases sound, on the disk.

    Raises the same, StorageFull, and InternalError for a database that is damaged.
    """
    with _open(path) as tar:
        manifest = _manifest(tar, path)
        for entry, content in _contents(tar, manifest, path):
            place = target / entry.path
            try:
                place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                mode = (entry.mode & 0o777) | 0o600
                descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
                with os.fdopen(descriptor, "wb") as file:
                    _copy(content, entry, file, path)
                    file.flush()
                    os.fsync(file.fileno())
            except OSError as error:
                raise StorageFull(f"{place} could not be written: {error.strerror or error}") from error
            if entry.kind == "database":
                check_database(place)
            progress(entry.path, entry.size)
    return manifest


def _open(path: Path) -> tarfile.TarFile:
    try:
        return tarfile.open(path, "r:")
    except FileNotFoundError as error:
        raise NotFound(f"there is no backup {path}") from error
    except (OSError, tarfile.TarError) as error:
        raise InvalidValue(f"{path} is no backup: {error}") from error


def _manifest(tar: tarfile.TarFile, path: Path) -> Manifest:
    try:
        members = tar.getmembers()
        last = members[-1] if members else None
        if last is None or last.name != MANIFEST or not last.isreg() or last.size > MOST_MANIFEST_BYTES:
            raise InvalidValue(f"{path} is no whole backup: its manifest is not there")
        content = cast(IO[bytes], tar.extractfile(last)).read()
        manifest = msgspec.json.decode(content, type=Manifest)
    except (OSError, EOFError, tarfile.TarError, msgspec.MsgspecError, UnicodeError, ValueError) as error:
        raise InvalidValue(f"{path} is no backup, or damaged: {error}") from error
    if manifest.format != FORMAT:
        raise InvalidValue(
            f"{path} has the format {manifest.format} of Hearth {manifest.version[:40]}; this one reads "
            f"{FORMAT}"
        )
    return manifest


def _contents(
    tar: tarfile.TarFile, manifest: Manifest, path: Path
) -> list[tuple[Entry, Callable[[], IO[bytes]]]]:
    """Every entry with its content. Raises InvalidValue unless tar and manifest name the same files."""
    members = {member.name: member for member in tar.getmembers()[:-1]}
    listed = {checked_name(entry.path) for entry in manifest.entries}
    if len(listed) != len(manifest.entries) or len(members) != len(tar.getmembers()) - 1:
        raise InvalidValue(f"{path} names a file twice")
    if listed != set(members):
        odd = sorted(listed ^ set(members))[0]
        raise InvalidValue(f"{path} is damaged: {odd!r} is not both in it and in its manifest")
    for entry in manifest.entries:
        member = members[entry.path]
        if not member.isreg() or member.size != entry.size:
            raise InvalidValue(f"{path} is damaged: {entry.path} is not the file that its manifest names")

    def opener(name: str) -> Callable[[], IO[bytes]]:
        return lambda: cast(IO[bytes], tar.extractfile(members[name]))

    return [(entry, opener(entry.path)) for entry in manifest.entries]


def _copy(content: Callable[[], IO[bytes]], entry: Entry, target: IO[bytes] | None, path: Path) -> None:
    digest = hashlib.sha256()
    try:
        with content() as source:
            while piece := source.read(PIECE):
                digest.update(piece)
                if target is not None:
                    target.write(piece)
    except tarfile.TarError as error:
        raise InvalidValue(f"{path} is damaged at {entry.path}: {error}") from error
    if digest.hexdigest() != entry.sha256:
        raise InvalidValue(f"{path} is damaged: {entry.path} has not the hash that its manifest names")
