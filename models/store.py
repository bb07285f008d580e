"""The content-addressed store: which models are installed and where their bytes lie.

    <root>/blobs/sha256-<hex>      verified files, read-only, shared by all models that name them
    <root>/installed/<name>.json   one record per installed model: its manifest and where it came from
    <root>/partial/                files on their way in, and scratch space
    <root>/lock                    held by the one process that changes the store

A record is written only after every blob it names is in place, so what `list` shows is complete. Readers
take no lock. Knows neither networks (`pull` brings files) nor formats (`add` reads them).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from models.disk import UNFINISHED, replace_file, require_free, sync_directory
from models.errors import NameTaken, StoreError, UnknownModel
from models.lock import exclusive
from models.manifest import Manifest, ModelFile, decode_json
from models.partial import Partial, remove_quietly
from models.progress import Meter, Progress, silent
from models.region import Extent

Origin = Literal["catalogue", "file", "pack"]

_CHUNK = 1 << 20
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*\Z")
_SCRATCH = "scratch-"


class Installed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model in the store. `origin` says what brought it; `installed_at` in seconds since the epoch."""

    manifest: Manifest
    origin: Origin
    installed_at: float

    @property
    def name(self) -> str:
        return self.manifest.name


class Verdict(msgspec.Struct, frozen=True):
    """What `verify` found of one file. `actual` is its sha256 now, None when it cannot be read."""

    model: str
    file: str
    state: Literal["sound", "damaged", "missing"]
    expected: str
    actual: str | None


class Store:
    def __init__(self, root: Path) -> None:
        """Creates the directories under `root` if need be; raises StoreError when it cannot."""
        self.root = root
        self._blobs = root / "blobs"
        self._records = root / "installed"
        self._partials = root / "partial"
        for directory in (self._blobs, self._records, self._partials):
            try:
                directory.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StoreError(f"cannot make the model store's {directory}: {error.strerror}") from error

    # Reading

    def list(self) -> list[Installed]:
        """Every installed model, by name. Raises ManifestError for a record that cannot be read."""
        return [self._read(self._record(name)) for name in self._names()]

    def get(self, name: str) -> Installed:
        """Raises UnknownModel."""
        if not _NAME.match(name) or not self._record(name).is_file():
            raise UnknownModel(name, self._names(), "store")
        return self._read(self._record(name))

    def has(self, manifest: Manifest) -> bool:
        """Whether this very manifest is installed. Looks at the sizes of its files, not at their content."""
        try:
            installed = self.get(manifest.name)
        except UnknownModel:
            return False
        return installed.manifest == manifest and all(self.holds(file) for file in manifest.files)

    def path(self, name: str, file: str) -> Path:
        """The blob of a model's file. Raises UnknownModel, ManifestError, StoreError when it is gone."""
        entry = self.get(name).manifest.file(file)
        if not self.holds(entry):
            raise StoreError(f"{name}: {file} is missing or cut short in {self._blobs}; pull the model again")
        return self.blob(entry.sha256)

    def extent(self, name: str, file: str) -> Extent:
        """Like `path`, as the byte range an engine maps."""
        return Extent(self.path(name, file), 0, self.get(name).manifest.file(file).bytes)

    def blob(self, sha256: str) -> Path:
        return self._blobs / f"sha256-{sha256}"

    def holds(self, file: ModelFile) -> bool:
        """Whether the file's blob is there with its full size. Looks at no content."""
        try:
            return self.blob(file.sha256).stat().st_size == file.bytes
        except FileNotFoundError:
            return False

    def verify(self, name: str | None = None, progress: Progress = silent) -> tuple[Verdict, ...]:
        """Hashes every file of one model, or of all. Changes nothing."""
        models = self.list() if name is None else [self.get(name)]
        return tuple(
            self._verdict(model.name, file, progress) for model in models for file in model.manifest.files
        )

    def is_sound(self, model: str, file: ModelFile, progress: Progress = silent) -> bool:
        """Whether the file's blob is there and hashes to its name."""
        return self._verdict(model, file, progress).state == "sound"

    # Changing; all of these are called with the lock held, except `remove`, which takes it

    @contextlib.contextmanager
    def changing(self, wait: float = 0.0) -> Iterator[None]:
        """Makes this the store's only writer and clears what a dead one left. Raises StoreBusy."""
        with exclusive(self.root, wait):
            for leftover in self._partials.glob(f"{_SCRATCH}*"):
                shutil.rmtree(leftover)
            for torn in self._records.glob(f"{UNFINISHED}*"):
                torn.unlink()
            yield

    def partial(self, label: str, size: int, sha256: str) -> Partial:
        """The file of this digest on its way in, continued where it stopped. Raises StoreFull."""
        partial = Partial(self._partials / sha256, label, size, sha256)
        try:
            require_free(self.root, partial.missing)
        except BaseException:
            partial.close()
            raise
        return partial

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """An empty directory on the store's file system that is gone afterwards."""
        with tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=self._partials) as directory:
            yield Path(directory)

    def install(self, manifest: Manifest, origin: Origin) -> Installed:
        """Records the model. Raises StoreError when one of its blobs is not there."""
        for file in manifest.files:
            if not self.holds(file):
                raise StoreError(
                    f"{manifest.name}: {file.path} is not in {self._blobs}; nothing was installed"
                )
        installed = Installed(manifest, origin, time.time())
        replace_file(self._record(manifest.name), msgspec.json.encode(installed))
        return installed

    def require_name(self, manifest: Manifest, origin: Origin) -> bool:
        """Whether installing the manifest replaces older content of its name.

        The catalogue and packs may do that with their own models. Raises NameTaken when the name belongs to
        other content.
        """
        try:
            other = self.get(manifest.name)
        except UnknownModel:
            return False
        same = {f.sha256 for f in other.manifest.files} == {f.sha256 for f in manifest.files}
        if not same and (other.origin != origin or origin == "file"):
            raise NameTaken(manifest.name)
        return not same

    def drop_blob(self, sha256: str) -> None:
        remove_quietly(self.blob(sha256))
        sync_directory(self._blobs)

    def withdraw(self, files: Sequence[ModelFile]) -> None:
        """Deletes what came of files that no record names, when an installation from this machine's own disk
        has failed: unlike what was fetched it is quickly there again."""
        wanted = {file.sha256 for model in self.list() for file in model.manifest.files}
        for file in files:
            remove_quietly(self._partials / file.sha256)
            if file.sha256 not in wanted:
                self.drop_blob(file.sha256)

    def drop_unreferenced(self) -> int:
        """Deletes the blobs that no record names; the bytes freed."""
        wanted = {self.blob(file.sha256) for model in self.list() for file in model.manifest.files}
        freed = 0
        for blob in self._blobs.iterdir():
            if blob not in wanted:
                freed += blob.stat().st_size
                blob.unlink()
        sync_directory(self._blobs)
        return freed

    def remove(self, name: str, wait: float = 0.0) -> int:
        """Removes the model and every blob no other model shares; the bytes freed.

        A process that has the file mapped keeps it until it lets go. Raises UnknownModel, StoreBusy.
        """
        with self.changing(wait):
            files = self.get(name).manifest.files
            self._record(name).unlink()
            sync_directory(self._records)
            for file in files:
                remove_quietly(self._partials / file.sha256)
            return self.drop_unreferenced()

    def _names(self) -> tuple[str, ...]:
        return tuple(sorted(path.stem for path in self._records.glob("*.json")))

    def _record(self, name: str) -> Path:
        return self._records / f"{name}.json"

    def _read(self, path: Path) -> Installed:
        return decode_json(path.read_bytes(), Installed, str(path))

    def _verdict(self, model: str, file: ModelFile, progress: Progress) -> Verdict:
        meter = Meter(progress, model, file.path, "verify", "store", file.bytes)
        digest = hashlib.sha256()
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            with os.fdopen(os.open(self.blob(file.sha256), flags), "rb", buffering=0) as content:
                while chunk := content.read(_CHUNK):
                    digest.update(chunk)
                    meter.advance(len(chunk))
        except FileNotFoundError:
            return Verdict(model, file.path, "missing", file.sha256, None)
        except OSError:  # a failing disk, or a link in the blob's place
            return Verdict(model, file.path, "damaged", file.sha256, None)
        actual = digest.hexdigest()
        return Verdict(model, file.path, "sound" if actual == file.sha256 else "damaged", file.sha256, actual)
