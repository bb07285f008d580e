"""Makes a pack for the stick out of its parts and signs it: a directory, or one file (`models.signed_pack`).

The same parts, version and key give the same bytes.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import msgspec

from models.bundle import BasePart
from models.disk import full_disk_as_error, require_free, sync_directory
from models.embedded import open_embedded
from models.errors import HashMismatch, MalformedPack, ManifestError, StoreError
from models.library import ModelSource
from models.manifest import decode_json
from models.progress import Meter, Progress, silent
from models.region import Extent, Region
from models.signed_pack import (
    CONFIG,
    SIGNATURE,
    SIGNED_AS,
    TABLE,
    UPDATE,
    Item,
    PackedBase,
    PackTable,
    Update,
    base_path,
    model_path,
)
from models.signing import SigningKey
from models.store import Installed
from models.tar import header, padding, write_end


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """What goes in: models, each with the source of its files; `config` and `update` are files."""

    name: str
    version: str
    description: str = ""
    models: Sequence[tuple[Installed, ModelSource]] = ()
    bases: Sequence[BasePart] = ()
    config: Path | None = None
    update: Path | None = None


def make_pack(
    target: Path,
    parts: Parts,
    key: SigningKey,
    progress: Progress = silent,
    *,
    as_directory: bool = False,
) -> PackTable:
    """Writes `target` whole or not at all. Raises StoreError when a directory of that name is there already,
    MalformedPack for a wrong name or version, HashMismatch, StoreFull, OSError.
    """
    table = _table(target, parts)
    extents = _extents(parts)
    require_free(target.parent, sum(extent.length for extent in extents.values()))
    content = msgspec.json.encode(table)
    small = {TABLE: content, SIGNATURE: key.sign(SIGNED_AS, content)}
    if as_directory:
        _write_directory(target, table, small, extents, progress)
    else:
        _write_file(target, table, small, extents, progress)
    return table


def _table(target: Path, parts: Parts) -> PackTable:
    update = None
    if parts.update is not None:
        embedded = open_embedded(parts.update)
        embedded.require_signer()
        update = Update(embedded.table.version, _item(Extent.whole(parts.update)))
    try:
        table = PackTable(
            name=parts.name,
            version=parts.version,
            description=parts.description,
            models=tuple(model.manifest for model, _ in parts.models),
            bases=tuple(
                PackedBase(base.about.name, base.about.documents, Item(base.extent.length, base.about.sha256))
                for base in parts.bases
            ),
            config=None if parts.config is None else _item(Extent.whole(parts.config)),
            update=update,
        )
        table = decode_json(msgspec.json.encode(table), PackTable, target.name)  # by its readers' rules
        for name in table.files():
            header(name, 0)
    except (ManifestError, ValueError) as error:
        raise MalformedPack("the pack", str(error)) from error
    return table


def _item(extent: Extent) -> Item:
    with Region(extent.path, extent.start, extent.length) as region:
        return Item(extent.length, region.sha256())


def _extents(parts: Parts) -> dict[str, Extent]:
    found = {
        model_path(model.name, file.path): source.extent(model.name, file.path)
        for model, source in parts.models
        for file in model.manifest.files
    }
    found |= {base_path(base.about.sha256): base.extent for base in parts.bases}
    if parts.config is not None:
        found[CONFIG] = Extent.whole(parts.config)
    if parts.update is not None:
        found[UPDATE] = Extent.whole(parts.update)
    return found


def _write_file(
    target: Path, table: PackTable, small: dict[str, bytes], extents: dict[str, Extent], progress: Progress
) -> None:
    descriptor, unfinished = tempfile.mkstemp(prefix=f".{target.name}-", dir=target.parent)
    try:
        with full_disk_as_error(target.parent, 0), os.fdopen(descriptor, "wb") as file:
            for name, content in small.items():
                file.write(header(name, len(content)) + content + padding(len(content)))
            for name, item in table.files().items():
                file.write(header(name, item.bytes))
                _copy(file, name, item, extents[name], progress)
                file.write(padding(item.bytes))
            write_end(file)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        Path(unfinished).replace(target)
    except BaseException:
        Path(unfinished).unlink(missing_ok=True)
        raise
    sync_directory(target.parent)


def _write_directory(
    target: Path, table: PackTable, small: dict[str, bytes], extents: dict[str, Extent], progress: Progress
) -> None:
    if target.exists():
        raise StoreError(f"{target} is there already; name a new directory, or remove it first")
    unfinished = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        with full_disk_as_error(target.parent, 0):
            for name, content in small.items():
                with _durable(unfinished / name) as file:
                    file.write(content)
            for name, item in table.files().items():
                path = unfinished / name
                path.parent.mkdir(parents=True, exist_ok=True)
                with _durable(path) as file:
                    _copy(file, name, item, extents[name], progress)
        unfinished.chmod(0o755)
        unfinished.rename(target)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    sync_directory(target.parent)


@contextmanager
def _durable(path: Path) -> Iterator[BinaryIO]:
    with path.open("xb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def _copy(file: BinaryIO, name: str, item: Item, extent: Extent, progress: Progress) -> None:
    meter = Meter(progress, "pack", name, "copy", str(extent.path), item.bytes)
    digest = hashlib.sha256()
    with Region(extent.path, extent.start, extent.length) as region:
        for chunk in region.chunks():
            digest.update(chunk)
            file.write(chunk)
            meter.advance(len(chunk))
    if digest.hexdigest() != item.sha256:
        raise HashMismatch(name, item.sha256, digest.hexdigest(), str(extent.path))
