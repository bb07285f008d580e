"""Writes a one-file executable from its parts: launcher, model files, exported knowledge bases, program
archive.

Each part is a byte range of some file, so an executable can be made from another one as well as from what
the build left. The layout is the one in `models.embedded`. Bytes that do not hash to what their manifest says
stop the writing.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec

from models.disk import full_disk_as_error, require_free, sync_directory
from models.embedded import ALIGNMENT, MAGIC, SIGNED_AS, CarriedBase, Embedded, Footer, Part, Table
from models.errors import HashMismatch
from models.exported_base import ExportedBase
from models.library import ModelSource
from models.progress import Meter, Progress, silent
from models.region import Extent, Region
from models.signing import SigningKey
from models.store import Installed

_CHUNK = 1 << 20


class Program(msgspec.Struct, frozen=True):
    """The two parts every executable has. `index_sha256` is the hash of the archive's header and index."""

    launcher: Extent
    archive: Extent
    index_sha256: bytes
    version: str

    @classmethod
    def of(cls, executable: Embedded) -> Program:
        """Those of an executable that exists."""
        index_sha256 = executable.footer.program_sha256
        return cls(executable.launcher(), executable.program(), index_sha256, executable.table.version)


class BasePart(msgspec.Struct, frozen=True):
    """A knowledge base to put in, and where its exported zip lies."""

    about: CarriedBase
    extent: Extent

    @classmethod
    def of(cls, extent: Extent) -> BasePart:
        """Raises MalformedPack for what is no exported base, MalformedModel, OSError."""
        with ExportedBase(extent) as exported:
            name, documents = exported.manifest.name, len(exported.manifest.documents)
        with Region(extent.path, extent.start, extent.length) as region:
            sha256 = region.sha256()
        return cls(CarriedBase(name, documents, sha256), extent)


def write_bundle(
    target: Path,
    program: Program,
    pack: str,
    models: Sequence[Installed],
    source: ModelSource,
    progress: Progress = silent,
    *,
    bases: Sequence[BasePart] = (),
    key: SigningKey | None = None,
) -> Table:
    """Writes the executable `target` whole or not at all, with `models` out of `source`, signed by `key`.

    Raises HashMismatch, StoreFull, MalformedModel when a part cannot be read, and OSError.
    """
    needed = program.launcher.length + program.archive.length
    needed += sum(file.bytes + ALIGNMENT for model in models for file in model.manifest.files)
    needed += sum(base.extent.length + ALIGNMENT for base in bases)
    require_free(target.parent, needed)
    descriptor, unfinished = tempfile.mkstemp(prefix=f".{target.name}-", dir=target.parent)
    try:
        with full_disk_as_error(target.parent, needed), os.fdopen(descriptor, "wb") as file:
            table = _write(file, program, pack, models, source, progress, bases, key)
            file.flush()
            os.fchmod(file.fileno(), 0o755)
            os.fsync(file.fileno())
        Path(unfinished).replace(target)
    except BaseException:
        Path(unfinished).unlink(missing_ok=True)
        raise
    sync_directory(target.parent)
    return table


def _write(
    file: BinaryIO,
    program: Program,
    pack: str,
    models: Sequence[Installed],
    source: ModelSource,
    progress: Progress,
    bases: Sequence[BasePart],
    key: SigningKey | None,
) -> Table:
    launcher = _append(file, program.launcher, Meter(progress, "hearth", "launcher", "copy", "build", 1))
    files: dict[str, Part] = {}
    for model in models:
        for wanted in model.manifest.files:
            if wanted.sha256 in files:
                continue
            file.write(bytes(-file.tell() % ALIGNMENT))
            meter = Meter(progress, model.name, wanted.path, "copy", "store", wanted.bytes)
            part = _append(file, source.extent(model.name, wanted.path), meter)
            if part.sha256 != wanted.sha256:
                raise HashMismatch(wanted.path, wanted.sha256, part.sha256, f"the model {model.name}")
            files[wanted.sha256] = part
    for base in bases:
        if base.about.sha256 in files:
            continue
        file.write(bytes(-file.tell() % ALIGNMENT))
        meter = Meter(progress, "bases", base.about.name, "copy", "export", base.extent.length)
        part = _append(file, base.extent, meter)
        if part.sha256 != base.about.sha256:
            raise HashMismatch(base.about.name, base.about.sha256, part.sha256, "its exported file")
        files[part.sha256] = part
    meter = Meter(progress, "hearth", "program", "copy", "build", program.archive.length)
    archive = _append(file, program.archive, meter)
    carried = tuple(base.about for base in bases)
    table = Table(1, program.version, pack, launcher, archive, tuple(files.values()), tuple(models), carried)
    content = msgspec.json.encode(table)
    signature = key.sign(SIGNED_AS, content) if key is not None else b""
    table_offset = file.tell()
    footer = Footer(
        MAGIC,
        table_offset,
        len(content),
        hashlib.sha256(content).digest(),
        archive.offset,
        archive.bytes,
        program.index_sha256,
        *((table_offset + len(content), len(signature)) if signature else (0, 0)),
    )
    file.write(content + signature)
    file.write(footer.encode())
    return table


def _append(file: BinaryIO, extent: Extent, meter: Meter) -> Part:
    offset = file.tell()
    digest = hashlib.sha256()
    with Region(extent.path, extent.start, extent.length) as region:
        for at in range(0, extent.length, _CHUNK):
            chunk = region.read(at, min(_CHUNK, extent.length - at))
            digest.update(chunk)
            file.write(chunk)
            meter.advance(len(chunk))
    return Part(offset, extent.length, digest.hexdigest())
