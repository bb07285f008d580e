"""Putting a backup back into a home that no server uses.

Everything is unpacked beside what is there and checked; only then is each top entry of the home exchanged,
by renames that a journal remembers, so that a restore that was interrupted is finished at the next start.
What was there before lies in `before-restore-…` until somebody deletes it.
"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import msgspec
from msgspec import Struct

from appliance.backup.manifest import MODELS, Manifest, files_of, roots
from appliance.backup.reading import Progress, extract, read_manifest
from appliance.errors import InvalidValue, StorageFull
from appliance.store.archive_migrations import ARCHIVE_MIGRATIONS
from appliance.store.key_migrations import KEY_MIGRATIONS
from appliance.store.lock import HomeLock
from appliance.store.migrations import MIGRATIONS

JOURNAL = ".restore.json"
STAGING = ".restore"
KNOWN_STEPS = {
    "knowledge/knowledge.db": len(MIGRATIONS),
    "archive/archive.db": len(ARCHIVE_MIGRATIONS),
    "access/keys.db": len(KEY_MIGRATIONS),
}


class _Journal(Struct, frozen=True, kw_only=True):
    """`names`: of the home's top entries that are exchanged; `before`: where the old ones go."""

    names: tuple[str, ...]
    before: str


def restore(home: Path, backup: Path, progress: Progress = lambda path, size: None) -> tuple[Manifest, Path]:
    """Make `home` what it was when `backup` was made; its manifest, and where the old home's parts are now.

    Models that the backup does not hold stay. Raises SetupError while a server uses the home, NotFound,
    InvalidValue for what is no whole backup or one of a newer Hearth, StorageFull; then nothing has changed.
    """
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = HomeLock(home, alone=True)
    try:
        finish_restore(home)
        manifest = read_manifest(backup)
        _require_known(manifest, backup)
        staging = home / STAGING
        shutil.rmtree(staging, ignore_errors=True)
        try:
            staging.mkdir(mode=0o700)
            extract(backup, staging, progress)
            before = _begin(home, manifest)
        except OSError as error:
            raise StorageFull(f"the backup could not be unpacked: {error.strerror or error}") from error
        finally:
            if not (home / JOURNAL).exists():
                shutil.rmtree(staging, ignore_errors=True)
        finish_restore(home)
    finally:
        lock.release()
    return manifest, before


def finish_restore(home: Path) -> bool:
    """Go on with an exchange that was begun; whether there was one. Called before anything opens the home."""
    journal_path = home / JOURNAL
    if not journal_path.exists():
        return False
    journal = msgspec.json.decode(journal_path.read_bytes(), type=_Journal)
    before, staging = home / journal.before, home / STAGING
    before.mkdir(exist_ok=True, mode=0o700)
    for name in journal.names:
        ours, fresh, old = home / name, staging / name, before / name
        if os.path.lexists(ours) and not os.path.lexists(old):
            ours.rename(old)
        if os.path.lexists(fresh):
            fresh.rename(ours)
    _sync(before)
    _sync(home)
    journal_path.unlink()
    _sync(home)
    shutil.rmtree(staging, ignore_errors=True)
    return True


def _begin(home: Path, manifest: Manifest) -> Path:
    """Write the journal: from now on the exchange is carried through, whatever happens."""
    kept = set() if manifest.models else {MODELS}
    ours = {name.partition("/")[0] for name in files_of(home, models=True)}
    names = tuple(sorted((ours | roots(manifest.entries)) - kept))
    before = f"before-restore-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"
    for number in range(1, 1000):
        if not (home / before).exists():
            break
        before = f"{before.partition('+')[0]}+{number}"
    _sync(home / STAGING)
    partial = home / f"{JOURNAL}.partial"
    with partial.open("wb") as file:
        file.write(msgspec.json.encode(_Journal(names=names, before=before)))
        file.flush()
        os.fsync(file.fileno())
    partial.rename(home / JOURNAL)
    _sync(home)
    return home / before


def _require_known(manifest: Manifest, backup: Path) -> None:
    for entry in manifest.entries:
        known = KNOWN_STEPS.get(entry.path)
        if known is not None and entry.steps > known:
            raise InvalidValue(
                f"{backup} was made by Hearth {manifest.version[:40]}, whose {entry.path} is newer than this "
                "one knows; restore it with that version"
            )


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
