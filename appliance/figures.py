"""How the whole server is doing, read off its parts: for /metrics when it is asked for, and for the history.

Asks the workers, and leaves out one that does not answer soon. What a part is, it does not know: it is given
those that have figures.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Mapping

from appliance import memory
from appliance.activity import Activities
from appliance.errors import HearthError
from appliance.knowledge.service import Knowledge
from appliance.records import WorkerStats
from appliance.routing.router import Router
from appliance.security.audit.log import AuditLog
from appliance.security.egress import EgressGuard
from appliance.telemetry.history import FINE_STEP, Gauges, Recorder
from appliance.telemetry.metrics import Metrics
from appliance.workers.handles import measure
from appliance.workers.supervisor import State, Supervisor

MEASURE_PATIENCE = 2.0


class Figures:
    """`supervisors` tells every worker that there is now, by its public name."""

    def __init__(
        self,
        supervisors: Callable[[], Mapping[str, Supervisor]],
        activities: Activities,
        router: Router,
        guard: EgressGuard,
        audit: AuditLog | None,
        knowledge: Knowledge | None,
        metrics: Metrics,
        recorder: Recorder,
    ) -> None:
        self._supervisors, self._activities = supervisors, activities
        self._router, self._guard = router, guard
        self._audit, self._knowledge = audit, knowledge
        self._metrics, self._recorder = metrics, recorder
        self._sampling: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to remember."""
        self._sampling = asyncio.ensure_future(self._sample())

    def stop(self) -> None:
        if self._sampling is not None:
            self._sampling.cancel()

    async def refresh(self) -> None:
        """Bring the gauges of /metrics up to date."""
        metrics = self._metrics
        metrics.models.clear_gauges()
        for figures in self._router.figures():
            metrics.models.show(figures.model, figures.waiting, figures.places)
        metrics.loop_tasks.set(len(asyncio.all_tasks()))
        metrics.egress_refused.set(self._guard.refused)
        if (audit := self._audit) is not None:
            metrics.record_audit(
                newest=audit.newest, waiting=audit.waiting, lost=audit.lost, failing=bool(audit.failing)
            )
        if self._knowledge is not None:
            metrics.knowledge_cache_hit_rate.set(self._knowledge.cache.hit_rate)
        await asyncio.gather(*(self._measure(name, each) for name, each in self._supervisors().items()))

    async def _sample(self) -> None:
        while True:
            due = time.monotonic() + FINE_STEP
            await asyncio.sleep(FINE_STEP)
            self._metrics.loop_lag.set(max(0.0, time.monotonic() - due))
            self._recorder.take(await self._gauges())

    async def _gauges(self) -> Gauges:
        workers = self._supervisors().values()
        ready = [each for each in workers if each.state is State.READY]
        found = await asyncio.gather(
            *(asyncio.wait_for(measure(each), MEASURE_PATIENCE) for each in ready), return_exceptions=True
        )
        stats = [each for each in found if isinstance(each, WorkerStats)]
        pids = [each.pid for each in workers if each.pid is not None]
        return Gauges(
            tokens=self._activities.tokens,
            sessions=self._metrics.sessions,
            running=sum(each.running for each in stats),
            waiting=sum(each.waiting for each in stats),
            cells=sum(each.cells for each in stats),
            cells_used=sum(each.cells_used for each in stats),
            gateway_rss=memory.resident(os.getpid()),
            workers_rss=sum(map(memory.resident, pids)),
        )

    async def _measure(self, name: str, supervisor: Supervisor) -> None:
        self._metrics.worker_up.labels(name).set(supervisor.state is State.READY)
        self._metrics.worker_restarts.labels(name).set(supervisor.restarts)
        if supervisor.state is not State.READY:
            return
        with contextlib.suppress(TimeoutError, HearthError):
            self._metrics.record_worker(name, await asyncio.wait_for(measure(supervisor), MEASURE_PATIENCE))
