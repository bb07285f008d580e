"""Brings a model from disk or a stick into the store: any chat GGUF, its LoRA adapters, any ONNX embedder or
reranker.

Preflight first; then each file is copied while it is hashed, checked again as copied, and recorded. The
source is only read.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec

from models.adapter import TYPE, AdapterFacts, misfit, read_adapter
from models.disk import require_free
from models.errors import ManifestError, UnknownModel, UnsupportedModel
from models.gguf import GgufFacts, is_gguf, read_gguf
from models.library import ModelSource
from models.manifest import Adapter, Manifest, ModelFile
from models.onnx_directory import OnnxDirectory
from models.partial import Partial
from models.preflight import check
from models.progress import Meter, Notice, Progress, silent
from models.region import Extent, Region
from models.store import Installed, Store

_CHUNK = 1 << 20
_MAX_NAME = 96
_UNKNOWN_LICENCE = "unknown"
_LANGUAGE = re.compile(r"[a-z]{2,3}(?:-[A-Za-z0-9]{2,8})*\Z")
# Architectures whose GGUFs give vectors, or are a part of a model, and not text.
_ENCODERS = frozenset(
    {"bert", "eurobert", "gemma-embedding", "modern-bert", "neo-bert", "nomic-bert", "t5encoder"}
)
_ENCODER_FAMILIES = ("nomic-bert-", "jina-bert-")
_PARTS = frozenset({"adapter", "clip", "controlvector", "imatrix"})
_WHOLE_TYPES = frozenset({"", "model"})


class _Found(NamedTuple):
    """A model on disk: the store's file names with their paths, and the manifest once hashes are known."""

    sources: dict[str, Path]
    describe: Callable[[str, tuple[ModelFile, ...]], Manifest]
    notices: tuple[str, ...]


def add(
    store: Store,
    path: Path,
    name: str | None = None,
    progress: Progress = silent,
    *,
    wait: float = 0.0,
    bases: ModelSource | None = None,
    base: str | None = None,
    scale: float = 1.0,
) -> Installed:
    """Installs the GGUF file or ONNX directory at `path` as `name`, by default after the file.

    An adapter changes `base`, by default the one chat model of `bases` that it fits; `bases` defaults to the
    store. What had to be assumed is told through `progress`. Raises UnknownModel when nothing is there,
    MalformedModel, UnsupportedModel, ManifestError for a bad name, NameTaken, StoreFull, StoreBusy.
    """
    if not path.exists():
        raise UnknownModel(str(path), (), "file system")
    name = _slug(path) if name is None else name
    if path.is_dir():
        found = _directory(path)
    elif is_gguf(path) and read_gguf(path.resolve()).type == TYPE:
        found = _adapter(path.resolve(), bases or store, base, scale)
    else:
        found = _gguf(path)
    with store.changing(wait), store.scratch() as scratch, contextlib.ExitStack() as open_files:
        require_free(store.root, sum(source.stat().st_size for source in found.sources.values()))
        copies = {
            file: open_files.enter_context(_copy(source, scratch / file, name, file, progress))
            for file, source in found.sources.items()
        }
        files = tuple(ModelFile(file, copy.size, copy.check(str(path))) for file, copy in copies.items())
        manifest = _valid(found.describe(name, files))
        store.require_name(manifest, "file")
        check(manifest, {file: Extent.whole(copy.path) for file, copy in copies.items()})
        try:
            for file in files:
                copies[file.path].commit(store.blob(file.sha256), str(path))
            installed = store.install(manifest, "file")
        except BaseException:
            store.withdraw(files)
            raise
    for notice in found.notices:
        progress(Notice(name, notice))
    return installed


def _gguf(path: Path) -> _Found:
    if not is_gguf(path):
        raise UnsupportedModel(
            path.name, "is neither a GGUF file nor a directory with model.onnx and tokenizer.json"
        )
    path = path.resolve()  # a single file may be named by a link; what it leads to is then fixed
    facts = read_gguf(path)
    if problem := _unservable(facts):
        raise UnsupportedModel(path.name, problem)
    notices = (
        () if facts.chat_template else ("it carries no chat template, so only plain completions are served",)
    )
    return _Found({"model.gguf": path}, lambda name, files: _chat_manifest(name, files, facts), notices)


def _adapter(path: Path, bases: ModelSource, base: str | None, scale: float) -> _Found:
    facts = read_adapter(path)
    notices: tuple[str, ...] = ()
    if base is None:
        base = _only_base(path, facts, bases)
        notices = (f"it fits {base} and changes that",)
    model = bases.get(base)
    if model.manifest.role != "chat":
        raise UnsupportedModel(path.name, f"cannot change {base}, which is a model for {model.manifest.role}")
    if problem := misfit(facts, bases.extent(base, "model.gguf")):
        raise UnsupportedModel(path.name, f"does not fit {base}: {problem}")
    adapter = Adapter(base=base, scale=scale)
    return _Found(
        {"model.gguf": path},
        lambda name, files: Manifest(
            name=name,
            role="adapter",
            format="gguf",
            files=files,
            licence=facts.licence[:200] or _UNKNOWN_LICENCE,
            context_length=model.manifest.context_length,
            description=f"LoRA adapter of {len(facts.pairs)} weights for {base}: added from a file.",
            adapter=adapter,
        ),
        notices,
    )


def _only_base(path: Path, facts: AdapterFacts, bases: ModelSource) -> str:
    """The one chat model that the adapter fits. Raises UnsupportedModel when there is none, or several."""
    chat = [model.name for model in bases.list() if model.manifest.role == "chat"]
    reasons = {name: misfit(facts, bases.extent(name, "model.gguf")) for name in chat}
    fitting = [name for name, reason in reasons.items() if reason is None]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise UnsupportedModel(path.name, f"fits several models; say which with --base: {', '.join(fitting)}")
    told = "; ".join(f"{name}: {reason}" for name, reason in reasons.items()) or "none is installed"
    raise UnsupportedModel(path.name, f"is an adapter that fits no chat model here ({told})")


def _unservable(facts: GgufFacts) -> str | None:
    """Why this sound GGUF is no chat model, or None."""
    encodes = facts.architecture in _ENCODERS or facts.architecture.startswith(_ENCODER_FAMILIES)
    if encodes or facts.pooling:
        return f"is a {facts.architecture} embedding model; Hearth serves those from ONNX directories"
    if facts.split_count > 1:
        return f"is one of {facts.split_count} parts of a split model; merge them into one file first"
    if facts.architecture in _PARTS or facts.type not in _WHOLE_TYPES:
        kind = facts.architecture if facts.type in _WHOLE_TYPES else facts.type
        return f"is of type {kind}, not a whole model"
    if not facts.tensor_count:
        return "holds no weights"
    if not facts.context_length:
        return f"does not say {facts.architecture}.context_length, so no request could be sized"
    return None


def _chat_manifest(name: str, files: tuple[ModelFile, ...], facts: GgufFacts) -> Manifest:
    return Manifest(
        name=name,
        role="chat",
        format="gguf",
        files=files,
        licence=facts.licence[:200] or _UNKNOWN_LICENCE,
        languages=tuple(language for language in facts.languages[:256] if _LANGUAGE.match(language)),
        context_length=facts.context_length,
        description=f"{facts.name[:200] or name}, {facts.quantization}: added from a file.",
    )


def _directory(path: Path) -> _Found:
    found = OnnxDirectory(path)
    encoding, pooling, context_length = found.encoding(), found.pooling(), found.context_length()

    def describe(name: str, files: tuple[ModelFile, ...]) -> Manifest:
        return Manifest(
            name=name,
            role=found.role,
            format="onnx",
            files=files,
            licence=_UNKNOWN_LICENCE,
            context_length=context_length,
            description=f"{path.name[:200]}: added from a directory.",
            encoding=encoding,
            pooling=pooling,
        )

    return _Found(found.files, describe, tuple(found.assumed))


def _copy(source: Path, target: Path, model: str, file: str, progress: Progress) -> Partial:
    with Region(source, follow_links=False) as region:
        copy = Partial(target, file, region.length, None)
        try:
            meter = Meter(progress, model, file, "copy", str(source), region.length)
            while copy.missing:
                chunk = region.read(copy.size, min(_CHUNK, copy.missing))
                copy.write(chunk, str(source))
                meter.advance(len(chunk))
        except BaseException:
            copy.close()
            raise
    return copy


def _valid(manifest: Manifest) -> Manifest:
    """The manifest, once it obeys the constraints a decoded one obeys."""
    try:
        return msgspec.convert(msgspec.to_builtins(manifest), Manifest)
    except msgspec.ValidationError as error:
        raise ManifestError(manifest.name, f"{error}; choose a name of a-z, 0-9, '.', '_', '-'") from error


def _slug(path: Path) -> str:
    """A model name after a file's: lower case, one separator between words."""
    stem = path.resolve().name if path.is_dir() else path.stem
    words = re.sub(r"[^a-z0-9._-]+", "-", stem.lower())
    return re.sub(r"([._-])[._-]+", r"\1", words).strip("._-")[:_MAX_NAME].strip("._-")
