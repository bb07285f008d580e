"""Packs for the stick: models, knowledge bases, settings and updates, signed, as a directory or as one file.

    pack.json               the table below: what is in the pack, with every file's size and hash
    pack.sig                a signature of pack.json (`models.signing`)
    models/NAME/FILE        a model's files
    bases/SHA256.zip        exported knowledge bases (`models.exported_base`)
    config/hearth.toml      settings
    update/hearth           a newer executable

As one file, a pack is a plain tar (`models.tar`) of just that. Where a file lies follows from the table, so
nobody who writes a pack chooses a path; what the table does not name is not tolerated. Nothing is believed
before the signature fits, and nothing is to be written before `check` has hashed every byte and read every
format. Knows neither which keys are accepted (`models.trust`) nor where contents go (`appliance.packs`).
"""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import msgspec
from msgspec import Meta

from models.embedded import open_embedded
from models.errors import HashMismatch, MalformedPack, ManifestError
from models.exported_base import ExportedBase
from models.manifest import ByteCount, Manifest, ModelName, Sha256, Text, decode_json
from models.preflight import check as preflight
from models.progress import Meter, Progress, silent
from models.region import Extent, Region
from models.signing import SIGNATURE_BYTES, signer_of
from models.tar import read_members
from models.trust import Version

TABLE, SIGNATURE = "pack.json", "pack.sig"
CONFIG, UPDATE = "config/hearth.toml", "update/hearth"
SIGNED_AS: Final = "hearth pack 1\n"
MOST_TABLE_BYTES = 4 << 20
MOST_CONFIG_BYTES = 1 << 20
MOST_ENTRIES = 4096


class Item(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    bytes: ByteCount
    sha256: Sha256


class PackedBase(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An exported knowledge base."""

    name: Annotated[str, Meta(min_length=1, max_length=256)]
    documents: Annotated[int, Meta(ge=0, le=1_000_000)]
    file: Item


class Update(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An executable of this version."""

    version: Version
    file: Item


class PackTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything a pack holds. `name` and `version` are what a machine that has an older one compares."""

    format: Annotated[int, Meta(ge=1, le=1)] = 1
    name: ModelName
    version: Version
    description: Text = ""
    models: Annotated[tuple[Manifest, ...], Meta(max_length=64)] = ()
    bases: Annotated[tuple[PackedBase, ...], Meta(max_length=256)] = ()
    config: Item | None = None
    update: Update | None = None

    def __post_init__(self) -> None:
        if self.name == "hearth":
            raise ValueError("`hearth` is the name of executables; name the pack otherwise")
        for what, names in (
            ("model", [model.name for model in self.models]),
            ("base", [base.file.sha256 for base in self.bases]),
        ):
            if len(set(names)) != len(names):
                raise ValueError(f"a {what} is listed twice")

    def files(self) -> dict[str, Item]:
        """Every file but table and signature, by its path, in the order in which they lie."""
        found = {}
        for model in self.models:
            for file in model.files:
                found[model_path(model.name, file.path)] = Item(file.bytes, file.sha256)
        found |= {base_path(base.file.sha256): base.file for base in self.bases}
        if self.config is not None:
            found[CONFIG] = self.config
        if self.update is not None:
            found[UPDATE] = self.update.file
        return found


def model_path(model: str, file: str) -> str:
    return f"models/{model}/{file}"


def base_path(sha256: str) -> str:
    return f"bases/{sha256}.zip"


class SignedPack(NamedTuple):
    """A pack whose signature fits and whose files are there in their sizes; `check` looks into them."""

    path: Path
    table: PackTable
    signer: str
    extents: dict[str, Extent]

    def check(self, progress: Progress = silent) -> None:
        """Hash every file and read its format, as the engines' preflight does. Writes nothing.

        Raises HashMismatch, MalformedPack, MalformedModel, UnsupportedModel, MalformedBundle,
        UntrustedSignature.
        """
        for path, item in self.table.files().items():
            meter = Meter(progress, self.table.name, path, "verify", str(self.path), item.bytes)
            with self.open(path) as region:
                digest = region.sha256(meter.advance)
            if digest != item.sha256:
                raise HashMismatch(path, item.sha256, digest, str(self.path))
        for model in self.table.models:
            preflight(
                model, {file.path: self.extents[model_path(model.name, file.path)] for file in model.files}
            )
        for base in self.table.bases:
            with ExportedBase(self.extents[base_path(base.file.sha256)], base.name) as exported:
                if (exported.manifest.name, len(exported.manifest.documents)) != (base.name, base.documents):
                    raise MalformedPack(self.path.name, f"the base {base.name} is not what the table says")
        if self.table.config is not None:
            self.config()
        if self.table.update is not None:
            self._check_update(self.table.update)

    def config(self) -> str:
        """The text of its hearth.toml. Raises MalformedPack when it is too long or no text."""
        with self.open(CONFIG) as region:
            if region.length > MOST_CONFIG_BYTES:
                raise MalformedPack(self.path.name, f"{CONFIG} has more than {MOST_CONFIG_BYTES:,} bytes")
            content = region.read(0, region.length)
        try:
            return content.decode("utf-8")
        except UnicodeDecodeError as error:
            raise MalformedPack(self.path.name, f"{CONFIG} is no UTF-8 text: {error}") from error

    def open(self, path: str) -> Region:
        """One of its files. Raises MalformedModel when it has become a link or shorter meanwhile, OSError."""
        extent = self.extents[path]
        return Region(extent.path, extent.start, extent.length, follow_links=False)

    def _check_update(self, update: Update) -> None:
        embedded = open_embedded(self.extents[UPDATE])
        if embedded.table.version != update.version:
            raise MalformedPack(
                self.path.name, f"{UPDATE} is version {embedded.table.version}, not {update.version}"
            )
        embedded.require_signer()
        if damaged := [verdict.file for verdict in embedded.verify() if verdict.state != "sound"]:
            raise MalformedPack(self.path.name, f"{UPDATE}: its part {damaged[0]} is damaged")


def open_pack(path: Path) -> SignedPack:
    """The pack at `path`, a directory or a file.

    Raises MalformedPack, UntrustedSignature, and OSError as open does. Reads the table and the names only.
    """
    extents = _scan(path) if path.is_dir() else _index(path)
    if missing := [name for name in (TABLE, SIGNATURE) if name not in extents]:
        raise MalformedPack(path.name, f"is no pack: it has no {missing[0]}")
    content = _read_small(path, extents[TABLE], MOST_TABLE_BYTES)
    signer = signer_of(SIGNED_AS, content, _read_small(path, extents[SIGNATURE], SIGNATURE_BYTES))
    try:
        table = decode_json(content, PackTable, TABLE)
    except ManifestError as error:
        raise MalformedPack(path.name, error.message) from error
    files = table.files()
    if odd := sorted(set(extents) ^ {TABLE, SIGNATURE, *files}):
        what = "lacks" if odd[0] in files else "holds what its table does not name:"
        raise MalformedPack(path.name, f"{what} {odd[0]}")
    for name, item in files.items():
        if extents[name].length != item.bytes:
            raise MalformedPack(path.name, f"{name} has {extents[name].length:,} bytes, not {item.bytes:,}")
    return SignedPack(path, table, signer, {name: extents[name] for name in files})


def _read_small(path: Path, extent: Extent, most: int) -> bytes:
    if extent.length > most:
        raise MalformedPack(path.name, f"its table or signature has more than {most:,} bytes")
    with Region(extent.path, extent.start, extent.length, follow_links=False) as region:
        return region.read(0, extent.length)


def _index(path: Path) -> dict[str, Extent]:
    with Region(path) as region:
        members = read_members(region)
    if len({member.name for member in members}) != len(members):
        raise MalformedPack(path.name, "holds two files of one name")
    return {member.name: Extent(path, member.offset, member.size) for member in members}


def _scan(root: Path) -> dict[str, Extent]:
    """Every file below the directory by its path. Raises MalformedPack for what is no plain file."""
    found: dict[str, Extent] = {}
    folded: dict[str, str] = {}
    for count, (name, entry) in enumerate(_entries(root, "", 3), 1):
        if count > MOST_ENTRIES:
            raise MalformedPack(root.name, f"holds more than {MOST_ENTRIES} files")
        other = folded.setdefault(unicodedata.normalize("NFKC", name).casefold(), name)
        if other != name:
            raise MalformedPack(root.name, f"{other} and {name!r} are one name on some machines")
        status = entry.stat(follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            continue
        if not stat.S_ISREG(status.st_mode):
            raise MalformedPack(root.name, f"{name!r} is {_kind(status.st_mode)}, no file")
        if status.st_nlink > 1:
            raise MalformedPack(root.name, f"{name!r} is a hard link: it is also somewhere else")
        found[name] = Extent(Path(entry.path), 0, status.st_size)
    return found


def _entries(directory: Path, prefix: str, depth: int) -> Iterator[tuple[str, os.DirEntry[str]]]:
    with os.scandir(directory) as listing:
        for entry in listing:
            name = prefix + entry.name
            yield name, entry
            if entry.is_dir(follow_symlinks=False):
                if depth == 1:
                    raise MalformedPack(directory.name, f"{name!r} lies deeper than anything in a pack")
                yield from _entries(Path(entry.path), f"{name}/", depth - 1)


def _kind(mode: int) -> str:
    for is_kind, word in (
        (stat.S_ISLNK, "a symbolic link"),
        (stat.S_ISFIFO, "a pipe"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a character device"),
        (stat.S_ISBLK, "a block device"),
    ):
        if is_kind(mode):
            return word
    return "something else"
