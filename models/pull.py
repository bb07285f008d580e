"""Brings models of the catalogue into the store: fetch, verify, preflight, record.

A file that is already there is hashed again and, when damaged, fetched again, so a pull repairs. Where a
pack's model cannot be had, its fallback stands in and a sentence says so.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import msgspec

from models.disk import require_free
from models.errors import MalformedModel, SourceUnavailable
from models.manifest import Manifest
from models.pack import Catalogue, Pack, catalogue
from models.preflight import check
from models.progress import Notice, Progress, silent
from models.region import Extent
from models.sources.fetcher import Fetcher, Sources
from models.sources.hub import HubClient
from models.store import Installed, Store

ANY_SOURCE = Sources()


class PackReport(msgspec.Struct, frozen=True):
    """What `pull_pack` achieved; each substitution or omission has its sentence in `notices`."""

    installed: tuple[Installed, ...]
    notices: tuple[str, ...]


def pull(
    store: Store,
    manifest: Manifest,
    sources: Sources = ANY_SOURCE,
    progress: Progress = silent,
    *,
    wait: float = 0.0,
    hub: HubClient | None = None,
) -> Installed:
    """Installs one model; `wait` is how many seconds to wait for another process that changes the store.

    Raises SourceUnavailable, StoreFull, StoreBusy, NameTaken, MalformedModel.
    """
    with _pulling(store, sources, progress, wait, hub) as puller:
        return puller.pull(manifest)


def pull_pack(
    store: Store,
    pack: Pack,
    sources: Sources = ANY_SOURCE,
    progress: Progress = silent,
    *,
    wait: float = 0.0,
    hub: HubClient | None = None,
    known: Catalogue | None = None,
) -> PackReport:
    """Installs every model of a pack, or its fallback out of `known`, by default the catalogue.

    A role that neither can fill is left out with a sentence, but for chat: without a chat model this raises
    SourceUnavailable. Also raises StoreFull before fetching anything, StoreBusy, NameTaken, MalformedModel.
    """
    installed: dict[str, Installed] = {}
    notices: list[str] = []
    with _pulling(store, sources, progress, wait, hub) as puller:
        require_free(store.root, sum(f.bytes for m in pack.models for f in m.files if not store.holds(f)))
        for manifest in pack.models:
            try:
                model = puller.pull(manifest)
            except SourceUnavailable as failure:
                substitute = pack.fallbacks.get(manifest.role)
                fallback = (known or catalogue()).get(substitute) if substitute else None
                stand_in, sentence = puller.stand_in(manifest, fallback, failure)
                notices.append(sentence)
                progress(Notice(manifest.name, sentence))
                if stand_in is None:
                    continue
                model = stand_in
            installed[model.name] = model
    return PackReport(tuple(installed.values()), tuple(notices))


def has_pack(store: Store, pack: Pack) -> bool:
    """Whether every model of the pack is installed. Looks at sizes only, so it is quick."""
    return all(store.has(model) for model in pack.models)


@contextlib.contextmanager
def _pulling(
    store: Store, sources: Sources, progress: Progress, wait: float, hub: HubClient | None
) -> Iterator[_Puller]:
    with store.changing(wait), store.scratch() as scratch, hub or HubClient() as client:
        yield _Puller(store, Fetcher(store, scratch, sources, client, progress), progress)


class _Puller:
    """Pulls while the store is locked."""

    def __init__(self, store: Store, fetcher: Fetcher, progress: Progress) -> None:
        self._store = store
        self._fetcher = fetcher
        self._progress = progress

    def pull(self, manifest: Manifest) -> Installed:
        store = self._store
        replaces = store.require_name(manifest, "catalogue")
        for file in manifest.files:
            if not (store.holds(file) and store.is_sound(manifest.name, file, self._progress)):
                self._fetcher.bring(manifest.name, file, store.blob(file.sha256))
        try:
            check(manifest, {file.path: Extent.whole(store.blob(file.sha256)) for file in manifest.files})
        except MalformedModel:
            store.drop_unreferenced()
            raise
        installed = store.install(manifest, "catalogue")
        if replaces:
            store.drop_unreferenced()
        return installed

    def stand_in(
        self, wanted: Manifest, fallback: Manifest | None, failure: SourceUnavailable
    ) -> tuple[Installed | None, str]:
        """The fallback, or None for a role that can do without, and the sentence about it."""
        loss = f"{wanted.name} could not be had ({failure.message})"
        if fallback is not None and fallback.name != wanted.name:
            try:
                return self.pull(fallback), f"{loss}; {fallback.name} stands in for it"
            except SourceUnavailable as second:
                failure = SourceUnavailable(failure.file, failure.reasons + second.reasons)
        if wanted.role == "chat":
            raise failure
        return None, f"{loss}, so there is no {wanted.role} model"
