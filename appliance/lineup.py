"""Which of the installed models are served, and under which names: the pack's or those named, the user's own,
and each chat model once more with each of its LoRA adapters, as `MODEL+ADAPTER`.

Knows manifests and settings; it opens no file and starts nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

import msgspec

from appliance.config.schema import Settings
from appliance.errors import SetupError
from models.errors import ModelError
from models.library import ModelSource
from models.pack import load_pack
from models.store import Installed

log = logging.getLogger("hearth.lineup")

PLUS = "+"  # between a model's name and its adapter's; no model's own name has one


class Lineup:
    """Raises SetupError naming a model that is not installed, or when no chat model is."""

    def __init__(self, settings: Settings, source: ModelSource) -> None:
        chosen = choose_models(settings, source)
        self.chat = [model for model in chosen if model.manifest.role == "chat"]
        self.encoders = [model for model in chosen if model.manifest.role in ("embed", "rerank")]
        self._adapters = [model for model in chosen if model.manifest.adapter is not None]
        for adapter in self._adapters:
            if not self._base_of(adapter):
                log.warning("%s is not served: the model it changes is not served either", adapter.name)

    def adapters_of(self, model: Installed) -> list[Installed]:
        return [adapter for adapter in self._adapters if self._base_of(adapter) == model]

    def named(self, served: Iterable[tuple[str, str]]) -> dict[str, Installed]:
        """Every name that is served. `served`: the pairs of model and adapter that a worker will have."""
        own = {model.name: model for model in (*self.chat, *self.encoders)}
        changed = {name + PLUS + adapter: self._changed(own[name], adapter) for name, adapter in served}
        return own | changed

    def _base_of(self, adapter: Installed) -> Installed | None:
        wanted = adapter.manifest.adapter
        return next((model for model in self.chat if wanted and model.name == wanted.base), None)

    def _changed(self, model: Installed, adapter: str) -> Installed:
        """The model as it is with the adapter: all its facts, under the name of both."""
        installed = next(each for each in self._adapters if each.name == adapter)
        manifest = msgspec.structs.replace(
            model.manifest,
            name=f"{model.name}{PLUS}{adapter}",
            description=installed.manifest.description,
            licence=f"{model.manifest.licence} and {installed.manifest.licence}",
        )
        return Installed(manifest, installed.origin, installed.installed_at)


def choose_models(settings: Settings, source: ModelSource) -> list[Installed]:
    """The models to serve: those named, else the pack's (or what stands in for them) and the user's own.

    Raises SetupError naming a model that is not installed, or when no chat model is.
    """
    try:
        if settings.models:
            return [source.get(name) for name in settings.models]
        pack = load_pack(settings.pack)
        wanted = [model.name for model in pack.models]
        installed = {model.name: model for model in source.list()}
    except ModelError as error:
        raise SetupError(error.message) from error
    for model in pack.models:
        stand_in = pack.fallbacks.get(model.role)
        if model.name not in installed and stand_in in installed:
            log.warning("%s is not installed; %s stands in for it", model.name, stand_in)
            wanted.append(stand_in)
    wanted += settings.generator.pinned
    chosen = [m for m in installed.values() if m.name in wanted or m.origin != "catalogue"]
    if not any(model.manifest.role == "chat" for model in chosen):
        raise SetupError(
            f"no chat model of the pack {settings.pack!r} is installed; run `hearth models pull` first"
        )
    return chosen
