"""The composition root: which models are served, by which workers, and their start, drain and stop.

Built from settings and a source of models. The API asks it for a model by name and gets a handle or a typed
error; it knows no HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass
from functools import partial
from typing import Literal

from appliance import paths
from appliance.config.schema import Settings
from appliance.errors import HearthError, InvalidValue, ModelNotFound, SetupError, Unavailable
from appliance.knowledge.embedding import ServedEmbedder, fingerprint
from appliance.knowledge.service import Knowledge
from appliance.orders import encoder_order, generator_order
from appliance.records import EncoderModel, Order, WorkerStats
from appliance.routing.budgets import Budgets
from appliance.routing.local import LocalGenerator, local_model
from appliance.routing.router import Router
from appliance.security.egress import EgressGuard
from appliance.telemetry.metrics import Metrics
from appliance.workers.handles import EncoderHandle, GeneratorHandle
from appliance.workers.supervisor import State, Supervisor
from models.errors import ModelError
from models.library import ModelSource
from models.manifest import Manifest
from models.pack import load_pack
from models.store import Installed

log = logging.getLogger("hearth.runtime")

MEASURE_PATIENCE = 2.0


@dataclass(frozen=True)
class ServedModel:
    """A model that this server answers for, and how it is doing."""

    manifest: Manifest
    installed_at: float
    state: Literal["ready", "loading", "down"]
    context_length: int


class Runtime:
    """`start` before use, `stop` at the end. Raises SetupError when a model to be served is missing."""

    def __init__(self, settings: Settings, source: ModelSource) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.started_at = time.time()
        self.draining = False
        self._installed = {model.name: model for model in choose_models(settings, source)}
        self._generators: dict[str, GeneratorHandle] = {}
        self._encoder: EncoderHandle | None = None
        self._encoder_models: dict[str, EncoderModel] = {}
        patience = settings.limits.load_wait
        for model in self._installed.values():
            if model.manifest.role == "chat":
                supervisor = self._supervise("generator", generator_order(model, source, settings))
                self._generators[model.name] = GeneratorHandle(supervisor, patience)
        encoders = [model for model in self._installed.values() if model.manifest.role != "chat"]
        if encoders:
            order = encoder_order(encoders, source, settings)
            self._encoder_models = {model.name: model for model in order.models}
            self._encoder = EncoderHandle(self._supervise("encoder", order), patience)
        self._knowledge = self._open_knowledge() if settings.knowledge.enabled else None
        self.guard = EgressGuard(is_offline=settings.routing.mode == "offline")
        self.router = self._open_router()

    @staticmethod
    def _supervise(role: str, order: Order) -> Supervisor:
        return Supervisor(role=role, order=order, program=paths.self_command())

    def _open_knowledge(self) -> Knowledge:
        rerankers = [model for model in self._encoder_models.values() if model.role == "rerank"]
        return Knowledge(
            paths.knowledge(paths.home()),
            paths.cache(),
            paths.self_command(),
            self._encoder,
            [
                ServedEmbedder(model, fingerprint(self._installed[name].manifest))
                for name, model in self._encoder_models.items()
                if model.role == "embed"
            ],
            rerankers[0] if rerankers else None,
            self.settings.knowledge,
        )

    def _open_router(self) -> Router:
        routing = self.settings.routing
        is_online = routing.mode == "hybrid"
        return Router(
            routing,
            {
                name: (
                    local_model(
                        name,
                        model.manifest.role,
                        context_length=model.manifest.context_length,
                        quality=routing.local_quality,
                    ),
                    LocalGenerator(partial(self.generator, name)) if model.manifest.role == "chat" else None,
                )
                for name, model in self._installed.items()
            },
            check=self.guard.check,
            directory=paths.home(),
            budgets=Budgets(paths.budgets(paths.home()), routing.budgets) if is_online else None,
            observer=self.metrics.models,
        )

    # Life

    def start(self) -> None:
        """Start every worker; returns at once, `is_ready` tells when they are."""
        for supervisor in self.supervisors().values():
            supervisor.start()
        if self._knowledge is not None:
            self._knowledge.start()
        self.router.start()

    async def stop(self) -> None:
        """Finish what runs, within the drain limit, then end every worker."""
        self.draining = True
        patience = self.settings.limits.drain
        if self._knowledge is not None:
            await self._knowledge.stop()
        await asyncio.gather(*(supervisor.stop(patience) for supervisor in self.supervisors().values()))
        await self.router.close()

    def supervisors(self) -> dict[str, Supervisor]:
        """Every worker's supervisor, by the worker's public name."""
        named = {name: handle.supervisor for name, handle in self._generators.items()}
        return named | ({"encoder": self._encoder.supervisor} if self._encoder else {})

    @property
    def is_ready(self) -> bool:
        return not self.draining and all(s.state is State.READY for s in self.supervisors().values())

    # Models

    def generator(self, name: str) -> GeneratorHandle:
        """Raises ModelNotFound, or InvalidValue when the model is not for chat."""
        self._require_role(name, "chat")
        return self._generators[name]

    def embedder(self, name: str) -> EncoderModel:
        """Raises ModelNotFound, or InvalidValue when the model does not embed."""
        self._require_role(name, "embed")
        return self._encoder_models[name]

    def reranker(self, name: str) -> EncoderModel:
        """Raises ModelNotFound, or InvalidValue when the model does not rerank."""
        self._require_role(name, "rerank")
        return self._encoder_models[name]

    @property
    def encoder(self) -> EncoderHandle:
        if self._encoder is None:
            raise Unavailable("no embedding or rerank model is served")
        return self._encoder

    @property
    def knowledge(self) -> Knowledge:
        if self._knowledge is None:
            raise Unavailable("knowledge bases are switched off here (knowledge.enabled)")
        return self._knowledge

    def served(self, name: str) -> ServedModel:
        """Raises ModelNotFound."""
        installed = self._require(name)
        role = installed.manifest.role
        supervisor = self.supervisors()[name if role == "chat" else "encoder"]
        facts = next((facts for facts in supervisor.facts if facts.name == name), None)
        state: Literal["ready", "loading", "down"] = "down"
        if supervisor.state is State.READY:
            state = "ready"
        elif supervisor.state is State.STARTING and supervisor.last_error is None:
            state = "loading"
        length = facts.context_length if facts else installed.manifest.context_length
        return ServedModel(installed.manifest, installed.installed_at, state, length)

    def all_served(self) -> list[ServedModel]:
        return [self.served(name) for name in self._installed]

    def _require(self, name: str) -> Installed:
        if name not in self._installed:
            raise ModelNotFound(
                f"there is no model {name!r} here; there are: {', '.join(self._installed)}", param="model"
            )
        return self._installed[name]

    def _require_role(self, name: str, role: str) -> None:
        actual = self._require(name).manifest.role
        if actual != role:
            fitting = [m.name for m in self._installed.values() if m.manifest.role == role]
            raise InvalidValue(
                f"{name} is a model for {actual}, not for {role}; for {role} there is: "
                f"{', '.join(fitting) or 'none'}",
                param="model",
            )

    # Figures

    async def refresh_metrics(self) -> None:
        """Ask the workers for their gauges; a worker that does not answer soon is left out."""
        self.metrics.models.clear_gauges()
        for figures in self.router.figures():
            self.metrics.models.show(figures.model, figures.platform, figures.waiting, figures.places)
        if self._knowledge is not None:
            self.metrics.knowledge_cache_hit_rate.set(self._knowledge.cache.hit_rate)
        await asyncio.gather(*(self._measure(name, s) for name, s in self.supervisors().items()))

    async def _measure(self, name: str, supervisor: Supervisor) -> None:
        self.metrics.worker_up.labels(name).set(supervisor.state is State.READY)
        self.metrics.worker_restarts.labels(name).set(supervisor.restarts)
        if supervisor.state is not State.READY:
            return
        with contextlib.suppress(TimeoutError, HearthError):
            self.metrics.record_worker(name, await asyncio.wait_for(self._stats(name), MEASURE_PATIENCE))

    async def _stats(self, name: str) -> WorkerStats:
        handle = self.encoder if name == "encoder" else self._generators[name]
        return await handle.measure()


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
    chosen = [m for m in installed.values() if m.name in wanted or m.origin == "file"]
    if not any(model.manifest.role == "chat" for model in chosen):
        raise SetupError(
            f"no chat model of the pack {settings.pack!r} is installed; run `hearth models pull` first"
        )
    return chosen
