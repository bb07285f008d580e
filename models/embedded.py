"""The models and knowledge bases inside a one-file executable, and the signed table that says where each part
of that file lies.

    launcher │ models' and bases' files, each 64 KiB-aligned │ program archive │ table (JSON) │ signature │
    footer

The footer, 128 bytes, is read from the file's end, so finding the table costs two small reads whatever the
file's size. Numbers in it are little-endian; build/launcher.c reads the same bytes:

      0  16 bytes  b"HEARTH BUNDLE 1\\n"
     16  u64 u64   table: offset, size
     32  32 bytes  table: SHA-256
     64  u64 u64   program archive: offset, size
     80  32 bytes  program archive: SHA-256 of its header and index
    112  u64 u64   signature of the table, right behind it: offset, size; both 0 when unsigned

The table holds every part's hash, so one signature over it (`models.signing`) covers the whole file. Knows
neither how the file was made (`models.bundle`) nor how it runs, nor whose signature is accepted
(`models.trust`).
"""

from __future__ import annotations

import hashlib
import os
import struct
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Final, Literal, NamedTuple

import msgspec
from msgspec import Meta

from models.errors import MalformedBundle, ModelError, UnknownModel, UntrustedSignature
from models.manifest import ModelName, Sha256, Text, decode_json
from models.progress import Meter, Progress, silent
from models.region import Extent, Region
from models.store import Installed, Verdict

MAGIC = b"HEARTH BUNDLE 1\n"
ALIGNMENT = 1 << 16  # llama.cpp maps weights where they lie only from such an offset on
MOST_TABLE_BYTES = 4 << 20
MOST_SIGNATURE_BYTES = 4096
SIGNED_AS: Final = "hearth executable 1\n"

_FOOTER = struct.Struct("<16sQQ32sQQ32sQQ")
FOOTER_BYTES = _FOOTER.size

Offset = Annotated[int, Meta(ge=0, le=1 << 48)]


class Footer(NamedTuple):
    """The file's last 128 bytes, decoded."""

    magic: bytes
    table_offset: int
    table_size: int
    table_sha256: bytes
    program_offset: int
    program_size: int
    program_sha256: bytes
    signature_offset: int = 0
    signature_size: int = 0

    def encode(self) -> bytes:
        return _FOOTER.pack(*self)

    @classmethod
    def decode(cls, content: bytes) -> Footer:
        return cls(*_FOOTER.unpack(content))


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A byte range of the file and the hash of its bytes."""

    offset: Offset
    bytes: Offset
    sha256: Sha256

    @property
    def end(self) -> int:
        return self.offset + self.bytes


class CarriedBase(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An exported knowledge base (`models.exported_base`); its zip is found by its hash."""

    name: Annotated[str, Meta(min_length=1, max_length=256)]
    documents: Annotated[int, Meta(ge=0, le=1_000_000)]
    sha256: Sha256


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything the file carries. `pack` is the pack it serves; `files` are found by their hashes."""

    format: Literal[1]
    version: Text
    pack: ModelName
    launcher: Part
    program: Part
    files: Annotated[tuple[Part, ...], Meta(max_length=1024)]
    models: Annotated[tuple[Installed, ...], Meta(max_length=64)]
    bases: Annotated[tuple[CarriedBase, ...], Meta(max_length=256)] = ()


class Embedded:
    """The models of one executable, as a source of models beside the store."""

    def __init__(self, place: Extent, table: Table, footer: Footer) -> None:
        self.path = place.path
        self.place = place
        self.table = table
        self.footer = footer
        self._models = {model.name: model for model in table.models}
        self._files = {file.sha256: file for file in table.files}

    @property
    def pack(self) -> str:
        return self.table.pack

    def list(self) -> list[Installed]:
        """Every model, by name."""
        return [self._models[name] for name in sorted(self._models)]

    def get(self, name: str) -> Installed:
        """Raises UnknownModel."""
        if name not in self._models:
            raise UnknownModel(name, tuple(sorted(self._models)), "executable")
        return self._models[name]

    def extent(self, name: str, file: str) -> Extent:
        """Where the model's file lies in the executable. Raises UnknownModel, ManifestError."""
        return self._extent(self._files[self.get(name).manifest.file(file).sha256])

    def base(self, base: CarriedBase) -> Extent:
        """Where the base's zip lies."""
        return self._extent(self._files[base.sha256])

    def signer(self) -> str | None:
        """The verifying key of whoever signed the table; None when nobody did.

        Raises UntrustedSignature when the signature does not fit, and OSError.
        """
        # Imported here: a server starts without cryptography.
        from models.signing import signer_of

        if not self.footer.signature_size:
            return None
        with _open(self.place) as region:
            content = region.read(self.footer.table_offset, self.footer.table_size)
            signature = region.read(self.footer.signature_offset, self.footer.signature_size)
        return signer_of(SIGNED_AS, content, signature)

    def require_signer(self) -> str:
        """The same. Raises UntrustedSignature also when nobody signed."""
        signer = self.signer()
        if signer is None:
            raise UntrustedSignature(f"{self.path.name} is not signed")
        return signer

    def program(self) -> Extent:
        """Where the program archive lies."""
        return self._extent(self.table.program)

    def launcher(self) -> Extent:
        """Where the launcher lies."""
        return self._extent(self.table.launcher)

    def verify(self, progress: Progress = silent) -> tuple[Verdict, ...]:
        """Hashes every part: the launcher and the program as the model `hearth`, then each model's files and
        each base as a file of `bases`.
        """
        parts = [("hearth", "launcher", self.table.launcher), ("hearth", "program", self.table.program)]
        parts += [
            (model.name, file.path, self._files[file.sha256])
            for model in self.list()
            for file in model.manifest.files
        ]
        parts += [("bases", base.name, self._files[base.sha256]) for base in self.table.bases]
        return tuple(self._verdict(model, file, part, progress) for model, file, part in parts)

    def _extent(self, part: Part) -> Extent:
        return Extent(self.path, self.place.start + part.offset, part.bytes)

    def _verdict(self, model: str, file: str, part: Part, progress: Progress) -> Verdict:
        meter = Meter(progress, model, file, "verify", "executable", part.bytes)
        try:
            with _open(self._extent(part)) as region:
                actual = region.sha256(meter.advance)
        except (ModelError, OSError):
            return Verdict(model, file, "damaged", part.sha256, None)
        return Verdict(model, file, "sound" if actual == part.sha256 else "damaged", part.sha256, actual)


def open_embedded(place: Path | Extent) -> Embedded:
    """The models inside an executable: a file, or a range of one. Raises MalformedBundle, and OSError as open
    does.

    Reads and checks the footer and the table only; `Embedded.verify` hashes the rest.
    """
    place = place if isinstance(place, Extent) else Extent.whole(place)
    path = place.path
    with _open(place) as region:
        footer = _read_footer(region)
        content = region.read(footer.table_offset, footer.table_size)
    if hashlib.sha256(content).digest() != footer.table_sha256:
        raise MalformedBundle(
            path.name, "its table of contents has changed since it was made; copy the file again"
        )
    try:
        table = decode_json(content, Table, path.name)
    except ModelError as error:
        raise MalformedBundle(path.name, f"its table of contents: {error.message}") from error
    _check(path, table, footer)
    return Embedded(place, table, footer)


def _open(place: Extent) -> Region:
    return Region(place.path, place.start, place.length)


def has_footer(path: Path) -> bool:
    """Whether the file ends as an executable with models does. Raises OSError as open does."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - FOOTER_BYTES))
        return file.read(len(MAGIC)) == MAGIC


def _read_footer(region: Region) -> Footer:
    if region.length < FOOTER_BYTES:
        raise MalformedBundle(region.label, "it is too short to carry models")
    footer = Footer.decode(region.read(region.length - FOOTER_BYTES, FOOTER_BYTES))
    if footer.magic != MAGIC:
        raise MalformedBundle(region.label, "it carries no models, or its end was cut off")
    end = region.length - FOOTER_BYTES
    for what, offset, size in (
        ("table of contents", footer.table_offset, footer.table_size),
        ("program", footer.program_offset, footer.program_size),
    ):
        if offset > end or size > end - offset:
            raise MalformedBundle(region.label, f"its {what} would end behind the file's end")
    table_end = footer.table_offset + footer.table_size
    signature = (table_end, end - table_end) if end > table_end else (0, 0)
    if (footer.signature_offset, footer.signature_size) != signature:
        raise MalformedBundle(
            region.label, "between its table of contents and its end lies what is no signature"
        )
    if footer.signature_size > MOST_SIGNATURE_BYTES:
        raise MalformedBundle(region.label, f"its signature has {footer.signature_size} bytes")
    if footer.table_size > MOST_TABLE_BYTES:
        raise MalformedBundle(
            region.label,
            f"its table of contents has {footer.table_size} bytes; at most {MOST_TABLE_BYTES} fit",
        )
    return footer


def _check(path: Path, table: Table, footer: Footer) -> None:
    if (table.program.offset, table.program.bytes) != (footer.program_offset, footer.program_size):
        raise MalformedBundle(
            path.name, "its footer and its table of contents name different places of the program"
        )
    parts = sorted((table.launcher, *table.files, table.program), key=lambda part: part.offset)
    for before, after in pairwise(parts):
        if before.end > after.offset:
            raise MalformedBundle(path.name, f"its parts at bytes {before.offset} and {after.offset} overlap")
    if parts[-1].end > footer.table_offset:
        raise MalformedBundle(
            path.name, f"its part at byte {parts[-1].offset} runs into the table of contents"
        )
    if any(file.offset % ALIGNMENT for file in table.files):
        raise MalformedBundle(
            path.name, f"a model file in it does not begin at a multiple of {ALIGNMENT} bytes"
        )
    sizes = {file.sha256: file.bytes for file in table.files}
    for model in table.models:
        for file in model.manifest.files:
            if sizes.get(file.sha256) != file.bytes:
                raise MalformedBundle(path.name, f"it lacks {model.name}/{file.path}")
    for base in table.bases:
        if base.sha256 not in sizes:
            raise MalformedBundle(path.name, f"it lacks the knowledge base {base.name}")
