"""The composition root: which models are served, by which workers, and their start, drain and stop.

Built from settings and a source of models. The API asks it for a model by name and gets a handle or a typed
error; it knows no HTTP.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

from appliance import memory, paths
from appliance.activity import Activities, request_id
from appliance.archive import Archive
from appliance.backup.shelf import Shelf
from appliance.config.reload import Configuration
from appliance.config.routing import Role
from appliance.config.schema import Settings
from appliance.errors import InvalidValue, ModelNotFound, SetupError, Unavailable
from appliance.figures import Figures
from appliance.knowledge.carried import CarriedBase
from appliance.knowledge.embedding import ServedEmbedder, fingerprint
from appliance.knowledge.service import Knowledge
from appliance.launch import EncoderModel, Order
from appliance.lineup import PLUS, Lineup
from appliance.orders import encoder_order, generator_order
from appliance.residency.keep_alive import parse
from appliance.residency.residency import Residency
from appliance.residency.tenant import Tenant, TenantState
from appliance.routing.budgets import Budgets
from appliance.routing.local import LocalGenerator, local_model
from appliance.routing.router import Locals, Router
from appliance.security.access import Access
from appliance.security.audit.log import AuditLog
from appliance.security.egress import EgressGuard, is_loopback
from appliance.security.seal import seal
from appliance.security.sensitive.detector import Detector
from appliance.stock import Stock
from appliance.telemetry.history import Recorder
from appliance.telemetry.logs import LogLines
from appliance.telemetry.metrics import Metrics
from appliance.telemetry.observers import Observers
from appliance.tools.service import CallRecord, Tools
from appliance.workers.handles import EncoderHandle, GeneratorHandle
from appliance.workers.supervisor import State, Supervisor
from models.library import Library, ModelSource
from models.manifest import Manifest
from models.store import Installed

log = logging.getLogger("hearth.runtime")

MEMORY_SHARE = 0.75  # of what is free at the start, for chat models; the rest is for all else


@dataclass(frozen=True)
class ServedModel:
    """A model that this server answers for, and how it is doing."""

    manifest: Manifest
    installed_at: float
    state: TenantState
    context_length: int


class Runtime:
    """`start` before use, `stop` at the end. Raises SetupError when a model to be served is missing."""

    def __init__(
        self,
        settings: Settings,
        source: ModelSource,
        configuration: Configuration | None = None,
        log_lines: LogLines | None = None,
        carried: Sequence[CarriedBase] = (),
    ) -> None:
        self.settings = settings
        self.log_lines = log_lines or LogLines()
        self.recorder = Recorder()
        self.backups = Shelf(paths.home(), paths.backups(paths.home()))
        self.configuration = configuration
        self._carried = carried
        self.metrics = Metrics()
        self.started_at = time.time()
        self.draining = False
        self.audit = AuditLog(paths.audit(paths.home()), settings.audit) if settings.audit.enabled else None
        self.detector = Detector(settings.privacy.kinds)
        self.activities = Activities()
        self._lineup = Lineup(settings, source)
        self.residency = self._open_residency(source)
        self._installed = self._lineup.named(
            (tenant.name, adapter.name)
            for tenant in self.residency.tenants()
            if tenant.order is not None
            for adapter in tenant.order.adapters
        )
        self._encoder: EncoderHandle | None = None
        self._encoder_models: dict[str, EncoderModel] = {}
        if self._lineup.encoders:
            order = encoder_order(self._lineup.encoders, source, settings)
            self._encoder_models = {model.name: model for model in order.models}
            supervisor = self._supervise("encoder", order)
            self._encoder = EncoderHandle(supervisor, settings.limits.load_wait, self.activities)
        self._knowledge = self._open_knowledge() if settings.knowledge.enabled else None
        is_open = not is_loopback(settings.host)
        self.access = Access(paths.access(paths.home()), settings.access, is_open=is_open)
        self.guard = EgressGuard(is_offline=settings.routing.mode == "offline")
        self.is_sealed = False  # the kernel refuses this process every new network socket
        self.router = self._open_router()
        self._source = source
        self.examining = asyncio.Lock()  # the doctor looks once at a time
        self._stock = (
            Stock(source, self._take_in, self._why_no_fetch) if isinstance(source, Library) else None
        )
        self.tools = Tools(settings.tools, self.guard.check, self._audit_call, self._through_seal)
        self._watching: asyncio.Task[None] | None = None
        self.figures = Figures(
            self.supervisors,
            self.activities,
            self.router,
            self.guard,
            self.audit,
            self._knowledge,
            self.metrics,
            self.recorder,
        )
        self._archive = (
            Archive(paths.archive(paths.home()), settings.archive) if settings.archive.enabled else None
        )

    def _open_residency(self, source: ModelSource) -> Residency:
        """Chat models only: an encoder has memory of its own, and never takes a chat model's."""
        generator = self.settings.generator
        most = generator.memory or int(memory.available() * MEMORY_SHARE)
        chat = self._lineup.chat
        if unknown := set(generator.pinned) - {model.name for model in chat}:
            raise SetupError(f"generator.pinned names {min(unknown)!r}, which is no installed chat model")
        if unknown := generator.draft_models.keys() - {model.name for model in chat}:
            raise SetupError(
                f"generator.draft_models names {min(unknown)!r}, which is no installed chat model"
            )
        return Residency(
            most,
            [self._tenant(model, source, most) for model in chat],
            lambda order: self._supervise("generator", order),
            memory.available,
            patience=self.settings.limits.load_wait,
            keep_alive=parse(generator.keep_alive),
        )

    def _tenant(self, model: Installed, source: ModelSource, most: int) -> Tenant:
        """A model that somebody added and that is damaged is told to whoever asks for it, not to all."""
        pinned = model.name in self.settings.generator.pinned
        at_start = model.origin == "catalogue" or model.name in self.settings.models
        try:
            adapters = self._lineup.adapters_of(model)
            order, expected = generator_order(model, source, self.settings, most, adapters)
        except SetupError as error:
            return Tenant(model.name, None, 0, "", pinned=pinned, at_start=at_start, error=error)
        return Tenant(model.name, order, expected.bytes, str(expected), pinned=pinned, at_start=at_start)

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
            self._local_models(routing.local_quality),
            check=self.guard.check,
            directory=paths.home(),
            budgets=Budgets(paths.budgets(paths.home()), routing.budgets) if is_online else None,
            observer=Observers(self.metrics.models, self.recorder),
        )

    def _local_models(self, quality: int) -> Locals:
        return {
            name: (
                local_model(
                    name,
                    cast(Role, model.manifest.role),
                    context_length=model.manifest.context_length,
                    quality=quality,
                ),
                LocalGenerator(
                    partial(self.generator, name),
                    shares_prefixes=self.settings.generator.prefix_sharing == "all",
                )
                if model.manifest.role == "chat"
                else None,
            )
            for name, model in self._installed.items()
        }

    def reconfigure(self, settings: Settings) -> None:
        """Take new settings at once; what runs keeps the old. Raises ConfigError, and nothing has changed."""
        doors = self.access.prepared(settings.access)
        self.router.reload(settings.routing, self._local_models(settings.routing.local_quality))
        self.access.reload(doors)
        self.settings = settings
        self.detector = Detector(settings.privacy.kinds)
        if settings.routing.mode == "offline" and not self.guard.is_offline:
            self._close_network()
        logging.getLogger().setLevel(settings.log_level.upper())

    def _close_network(self) -> None:
        """For good: only a restart opens it again."""
        self.guard.enforce()
        self.guard.install()
        self.guard.watch(asyncio.get_running_loop())
        if self.settings.tools.needs_sockets:  # to loopback: the guard lets nothing else pass
            seal(allows_tcp=True)
            log.warning(
                "tools.http or tools.servers name addresses: the kernel refuses this process all sockets but "
                "those of TCP, and only the guard in Python keeps those on this machine"
            )
            return
        self.is_sealed = seal()

    def _through_seal(self) -> tuple[str, ...]:
        """What starts a program that must not reach the network, and does not inherit the whole seal."""
        return (*paths.self_command(), "sealed") if self.guard.is_offline and not self.is_sealed else ()

    def _take_in(self, model: Installed) -> bool:
        """Serve a chat model that was just installed; any other one needs a restart, and False says so."""
        if model.manifest.role != "chat" or model.name in self._installed:
            return False
        self.residency.add(self._tenant(model, self._source, self.residency.budget))
        self._installed[model.name] = model
        routing = self.settings.routing
        self.router.reload(routing, self._local_models(routing.local_quality))
        return True

    def _why_no_fetch(self) -> str:
        """Why models may not be fetched; empty where they may."""
        if self.guard.is_offline:
            return (
                "the mode is offline, so nothing is fetched: bring models in from a disk or a stick, run "
                "`hearth models pull` with the server stopped, or set routing.mode = 'hybrid'"
            )
        if self.settings.pull == "never":
            return (
                "pull = 'never' forbids it: set pull = 'missing', or bring models in from a disk or a stick"
            )
        return ""

    def _audit_call(self, call: CallRecord) -> None:
        if self.audit is None:
            return
        entry = self.audit.entry(
            "tool",
            user=call.user,
            request=request_id.get(),
            seconds=call.seconds,
            detail=f"{call.server}/{call.tool}: {call.outcome}, {call.size} bytes",
        )
        self.audit.admit(always=True).fill(entry)

    # Life

    def start(self) -> None:
        """Start every worker; returns at once, `is_ready` tells when they are."""
        if self.guard.is_offline:
            self._close_network()
        self.access.start()
        self.log_lines.watch()
        if self.audit is not None:
            self.audit.start()
        self.residency.start()
        if self._encoder is not None:
            self._encoder.supervisor.start()
        if self._knowledge is not None:
            self._knowledge.start(self._carried)
        self.router.start()
        self.figures.start()
        if self._archive is not None:
            self._archive.start()
        if self.configuration is not None:
            self.configuration.taker = self.reconfigure
            self.configuration.begin()
            self._watching = asyncio.ensure_future(self.configuration.watch())

    async def stop(self) -> None:
        """Finish what runs, within the drain limit, then end every worker."""
        self.draining = True
        if self._stock is not None:
            await self._stock.stop()
        self.figures.stop()
        if self._watching is not None:
            self._watching.cancel()
        patience = self.settings.limits.drain
        if self._knowledge is not None:
            await self._knowledge.stop()
        if self._archive is not None:
            await self._archive.stop()
        encoders = [self._encoder.supervisor.stop(patience)] if self._encoder else []
        await asyncio.gather(self.residency.stop(patience), *encoders)
        await self.tools.close()
        await self.router.close()
        await self.access.stop()
        if self.audit is not None:
            await asyncio.to_thread(self.audit.close)

    def supervisors(self) -> dict[str, Supervisor]:
        """The supervisor of every worker that there is now, by the worker's public name."""
        encoder = {"encoder": self._encoder.supervisor} if self._encoder else {}
        return self.residency.supervisors() | encoder

    @property
    def is_ready(self) -> bool:
        """Whether all answers that should be in memory; a model that is loaded on demand does not count."""
        encodes = self._encoder is None or self._encoder.supervisor.state is State.READY
        return not self.draining and encodes and self.residency.is_ready

    # Models

    def generator(self, name: str) -> GeneratorHandle:
        """Of a model, or of MODEL+ADAPTER. Raises ModelNotFound, or InvalidValue when it is not for chat."""
        self._require_role(name, "chat")
        base, _, adapter = name.partition(PLUS)
        return GeneratorHandle(base, self.residency, self.activities, adapter)

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

    @property
    def library(self) -> Library:
        """The models at hand. Raises Unavailable where they come from no library."""
        if not isinstance(self._source, Library):
            raise Unavailable("this server has no library of models")
        return self._source

    @property
    def stock(self) -> Stock:
        if self._stock is None:
            raise Unavailable("this server has no model store that could be changed")
        return self._stock

    @property
    def has_archive(self) -> bool:
        return self._archive is not None

    @property
    def archive(self) -> Archive:
        if self._archive is None:
            raise Unavailable("nothing is kept here (archive.enabled)")
        return self._archive

    def served(self, name: str) -> ServedModel:
        """Raises ModelNotFound."""
        installed = self._require(name)
        role = installed.manifest.role
        if role == "chat":
            return self._served_chat(installed, self.residency.tenant(name.partition(PLUS)[0]))
        supervisor = self.encoder.supervisor
        state: TenantState = "down"
        if supervisor.state is State.READY:
            state = "ready"
        elif supervisor.state is State.STARTING and supervisor.last_error is None:
            state = "loading"
        facts = next((facts for facts in supervisor.facts if facts.name == name), None)
        length = facts.context_length if facts else installed.manifest.context_length
        return ServedModel(installed.manifest, installed.installed_at, state, length)

    @staticmethod
    def _served_chat(installed: Installed, tenant: Tenant) -> ServedModel:
        length = installed.manifest.context_length
        if tenant.supervisor is not None and tenant.supervisor.facts:
            length = tenant.supervisor.facts[0].context_length
        elif tenant.order is not None:
            length = min(length, tenant.order.cells, tenant.order.context_length or length)
        return ServedModel(installed.manifest, installed.installed_at, tenant.state, length)

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
