"""A model's manifest: its files, their hashes and sources, its role and the facts needed to use it.

Decoding is strict: an unknown key, a digest of the wrong shape or a file name that could leave its
directory is a ManifestError naming file and key. Knows neither disk nor network.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from models.errors import ManifestError

Role = Literal["chat", "embed", "rerank", "adapter"]
Format = Literal["gguf", "onnx"]
PoolingMethod = Literal["mean", "cls"]
InputName = Literal["input_ids", "attention_mask", "token_type_ids"]

ModelName = Annotated[str, Meta(pattern=r"\A[a-z0-9](?:[._-]?[a-z0-9]){0,95}\Z", max_length=96)]
FileName = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_][A-Za-z0-9._-]{0,127}\Z")]
Sha256 = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
ByteCount = Annotated[int, Meta(ge=1, le=1 << 44)]
TokenCount = Annotated[int, Meta(ge=1, le=1 << 24)]
PackageName = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?\Z")]
PackageVersion = Annotated[str, Meta(pattern=r"\A[0-9][0-9A-Za-z.!+]{0,63}\Z")]
ZipMember = Annotated[str, Meta(pattern=r"\A(?!.*(?:^|/)\.\.?(?:/|$))(?!/)[A-Za-z0-9._/-]{1,255}\Z")]
HostName = Annotated[str, Meta(pattern=r"\A[a-z0-9](?:[a-z0-9.-]{0,250}[a-z0-9])?\Z")]
LanguageTag = Annotated[str, Meta(pattern=r"\A[a-z]{2,3}(?:-[A-Za-z0-9]{2,8})*\Z")]
Text = Annotated[str, Meta(max_length=2_000)]

Decoded = TypeVar("Decoded")


class Hub(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="hub"):
    """A file of a model hub. `redirect_hosts` are the further domains its answer may redirect to."""

    url: Annotated[str, Meta(max_length=2_000)]
    redirect_hosts: tuple[HostName, ...] = ()

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme != "https" or not parts.hostname or parts.username is not None:
            raise ValueError(f"url {self.url!r} is not an https URL without credentials")

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""


class WheelPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One member of one wheel: `bytes` of the member, `wheel_bytes` of the wheel that carries it."""

    package: PackageName
    version: PackageVersion
    member: ZipMember
    bytes: ByteCount
    wheel_bytes: ByteCount


class Registry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="registry"):
    """Wheel members that, joined in order, are the file."""

    parts: Annotated[tuple[WheelPart, ...], Meta(min_length=1, max_length=64)]


class RawFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file that only exists to be converted; it never enters the store."""

    path: FileName
    bytes: ByteCount
    sha256: Sha256
    sources: Annotated[tuple[Hub | Registry, ...], Meta(max_length=16)] = ()


class Conversion(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="conversion"):
    """The file is what `converter` makes of `raw`."""

    converter: Literal["e5"]
    raw: RawFile


Source = Hub | Registry | Conversion


class ModelFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file, identified by its sha256; `sources` are ways to get those bytes, tried in order."""

    path: FileName
    bytes: ByteCount
    sha256: Sha256
    sources: Annotated[tuple[Source, ...], Meta(max_length=16)] = ()


class Encoding(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How to feed an ONNX encoder.

    `max_tokens` and `pad_id` hold whatever padding and truncation tokenizer.json itself carries. The
    graph takes `inputs`, each int64 [batch, sequence], and answers in `output`: float [batch, sequence,
    dimensions] for an embedder, [batch, 1] for a reranker.
    """

    max_tokens: TokenCount
    pad_id: Annotated[int, Meta(ge=0, le=1 << 31)]
    inputs: Annotated[tuple[InputName, ...], Meta(min_length=2, max_length=3)]
    output: Annotated[str, Meta(min_length=1, max_length=200)]


class Pooling(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How token vectors become one vector of `dimensions`.

    `truncatable` lists the shorter lengths the model was trained to allow (matryoshka); empty: none.
    """

    method: PoolingMethod
    dimensions: Annotated[int, Meta(ge=1, le=65_536)]
    normalize: bool = True
    truncatable: tuple[Annotated[int, Meta(ge=1, le=65_536)], ...] = ()
    query_prefix: Annotated[str, Meta(max_length=1_000)] = ""
    passage_prefix: Annotated[str, Meta(max_length=1_000)] = ""


class Adapter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a LoRA adapter changes: the chat model `base`, with the strength `scale` (1: as trained)."""

    base: ModelName
    scale: Annotated[float, Meta(ge=-100, le=100)] = 1.0


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What Hearth knows of a model before opening it.

    An embedder has `encoding` and `pooling`, a reranker `encoding` only, an adapter `adapter`, a chat model
    none.
    `languages` empty means unstated, not none. `context_length` is in tokens.
    """

    name: ModelName
    role: Role
    format: Format
    files: Annotated[tuple[ModelFile, ...], Meta(min_length=1, max_length=16)]
    licence: Annotated[str, Meta(min_length=1, max_length=200)]
    languages: Annotated[tuple[LanguageTag, ...], Meta(max_length=256)] = ()
    context_length: TokenCount
    description: Text = ""
    encoding: Encoding | None = None
    pooling: Pooling | None = None
    adapter: Adapter | None = None

    def __post_init__(self) -> None:
        paths = [file.path for file in self.files]
        if len({path.casefold() for path in paths}) != len(paths):
            raise ValueError(f"model {self.name}: two files have one name: {', '.join(paths)}")
        encodes = self.role in ("embed", "rerank")
        if encodes == (self.format == "gguf"):
            raise ValueError(
                f"model {self.name}: chat models and adapters are gguf, embed and rerank models onnx"
            )
        if (self.encoding is not None) != encodes:
            raise ValueError(f"model {self.name}: embed and rerank models need `encoding`, others have none")
        if (self.adapter is not None) != (self.role == "adapter"):
            raise ValueError(f"model {self.name}: adapters need `adapter`, others have none")
        if (self.pooling is not None) != (self.role == "embed"):
            raise ValueError(f"model {self.name}: embed models need `pooling`, others have none")
        required = ("model.gguf",) if self.format == "gguf" else ("model.onnx", "tokenizer.json")
        missing = [path for path in required if path not in paths]
        if missing:
            raise ValueError(f"model {self.name}: files lack {', '.join(missing)}")

    @property
    def weights(self) -> ModelFile:
        """The file the engine loads."""
        return self.file(f"model.{self.format}")

    @property
    def bytes(self) -> int:
        """Bytes of all files together."""
        return sum(file.bytes for file in self.files)

    def file(self, path: str) -> ModelFile:
        """The file of that name. Raises ManifestError when the model has none."""
        for file in self.files:
            if file.path == path:
                return file
        raise ManifestError(
            self.name, f"has no file {path!r}; it has {', '.join(f.path for f in self.files)}"
        )


def decode_toml(content: bytes, kind: type[Decoded], label: str) -> Decoded:
    """`content` as `kind`. Raises ManifestError naming `label` and the key."""
    try:
        return msgspec.toml.decode(content, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ManifestError(label, str(error)) from error


def decode_json(content: bytes, kind: type[Decoded], label: str) -> Decoded:
    """`content` as `kind`. Raises ManifestError naming `label` and the key."""
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ManifestError(label, str(error)) from error
