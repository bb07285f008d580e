"""A knowledge base on its way elsewhere: the zip that `hearth kb export` writes, read as what a stranger
wrote.

    hearth-kb.json        the base's name, description, metadata and chunk sizes, and its documents
    documents/000000 …    their bytes, as they were put in

Opening checks all there is to check before a byte is unpacked: exactly the members that the manifest names,
plain and not encrypted, none in the place of another, and no more bytes than an honest zip of that size
unpacks to. Knows no server: `appliance.knowledge.carried` takes bases in.
"""

from __future__ import annotations

import io
import stat
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from types import TracebackType
from typing import IO, TYPE_CHECKING, Annotated, Literal, Self

import msgspec
from msgspec import Meta

from models.errors import MalformedPack, ModelError
from models.manifest import decode_json
from models.region import Extent, Region

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MANIFEST = "hearth-kb.json"
MOST_MANIFEST_BYTES = 64 << 20
MOST_RATIO = 200  # text that repeats itself a lot compresses to a fiftieth
FREE_BYTES = 64 << 20  # small zips may unpack to this much whatever their ratio
_LOCAL_HEADER_BYTES = 30
_ENCRYPTED = 0x1

MemberName = Annotated[str, Meta(pattern=r"\Adocuments/[0-9]{6,9}\Z")]
Attribute = str | bool | float


class StaticSizes(msgspec.Struct, frozen=True):
    max_chunk_size_tokens: Annotated[int, Meta(ge=1, le=1 << 16)]
    chunk_overlap_tokens: Annotated[int, Meta(ge=0, le=1 << 15)]


class Chunking(msgspec.Struct, frozen=True):
    """How documents were cut, as OpenAI's API writes it."""

    type: Literal["static"] = "static"
    static: StaticSizes | None = None


class ExportedDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    member: MemberName
    filename: Annotated[str, Meta(min_length=1, max_length=1024)]
    attributes: Annotated[dict[str, Attribute], Meta(max_length=64)] = {}
    chunking_strategy: Chunking | None = None


class BaseManifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: Literal[1]
    name: Annotated[str, Meta(min_length=1, max_length=256, pattern=r"\A[^@]+\Z")]
    documents: Annotated[tuple[ExportedDocument, ...], Meta(max_length=1_000_000)]
    description: Annotated[str, Meta(max_length=10_000)] = ""
    metadata: Annotated[dict[str, str], Meta(max_length=64)] = {}
    chunking_strategy: Chunking | None = None


class ExportedBase:
    """One exported base, open; `manifest` says what is in it. A context manager."""

    def __init__(self, extent: Extent, label: str = "") -> None:
        """Raises MalformedPack for what is no exported base, MalformedModel for a range that is not there,
        OSError.
        """
        self._label = label or extent.path.name
        self._region = Region(extent.path, extent.start, extent.length)
        try:
            self._zip = zipfile.ZipFile(_Reader(self._region))
            self._check_forms(self._zip.infolist())
            self.manifest = self._read_manifest()
            self._check_names()
        except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, ValueError, EOFError) as error:
            self._region.close()
            raise MalformedPack(self._label, f"is no exported knowledge base: {error}") from error
        except BaseException:
            self._region.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._zip.close()
        self._region.close()

    @contextmanager
    def content(self, document: ExportedDocument) -> Iterator[IO[bytes]]:
        """The document's bytes. Reading raises MalformedPack when they are damaged."""
        try:
            with self._zip.open(document.member) as file:
                yield file
        except (zipfile.BadZipFile, EOFError) as error:
            raise MalformedPack(self._label, f"{document.filename} is damaged: {error}") from error

    def _read_manifest(self) -> BaseManifest:
        try:
            found = self._zip.getinfo(MANIFEST)
        except KeyError:
            raise MalformedPack(self._label, f"is no exported knowledge base: it has no {MANIFEST}") from None
        if found.file_size > MOST_MANIFEST_BYTES:
            raise MalformedPack(self._label, f"its {MANIFEST} has {found.file_size:,} bytes")
        try:
            return decode_json(self._zip.read(found), BaseManifest, MANIFEST)
        except ModelError as error:
            raise MalformedPack(self._label, error.message) from error

    def _check_names(self) -> None:
        names = self._zip.namelist()
        wanted = [MANIFEST, *(document.member for document in self.manifest.documents)]
        if sorted(names) != sorted(wanted) or len(set(names)) != len(names):
            odd = sorted(set(names) ^ set(wanted)) or ["a member that is there twice"]
            raise MalformedPack(self._label, f"its members are not those its manifest names: {odd[0]!r}")

    def _check_forms(self, found: Sequence[zipfile.ZipInfo]) -> None:
        for member in found:
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG) or member.is_dir():
                raise MalformedPack(self._label, f"{member.filename} is no plain file")
            if member.flag_bits & _ENCRYPTED:
                raise MalformedPack(self._label, f"{member.filename} is encrypted")
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise MalformedPack(
                    self._label, f"{member.filename} is compressed in a way that is not taken"
                )
        by_place = sorted(found, key=lambda member: member.header_offset)
        for before, after in pairwise(by_place):
            header = _LOCAL_HEADER_BYTES + len(before.filename)
            if before.header_offset + header + before.compress_size > after.header_offset:
                raise MalformedPack(
                    self._label, f"{before.filename} and {after.filename} lie in the same place"
                )
        most = FREE_BYTES + MOST_RATIO * self._region.length
        if (total := sum(member.file_size for member in found)) > most:
            raise MalformedPack(
                self._label, f"would unpack to {total:,} bytes, more than {most:,} for its size: a bomb"
            )


class _Reader(io.RawIOBase):
    """A region as a file that zipfile can read."""

    def __init__(self, region: Region) -> None:
        self._region, self._at = region, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._region.length}[whence]
        if start + offset < 0:
            raise ValueError("seek before the beginning")
        self._at = start + offset
        return self._at

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        count = max(0, min(len(view), self._region.length - self._at))
        view[:count] = self._region.read(self._at, count)
        self._at += count
        return count
