"""The runtime as an operator sees it: its parts turned into the records of `appliance.admin`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time

import msgspec
import psutil

from appliance import admin, memory, version
from appliance.api.admin_advice import advice
from appliance.errors import HearthError
from appliance.lineup import PLUS
from appliance.residency.keep_alive import FOREVER
from appliance.runtime import Runtime, ServedModel
from appliance.workers.handles import measure
from appliance.workers.supervisor import State, Supervisor

MEASURE_PATIENCE = 1.0  # a worker in a long step answers when it is over


async def server_status(runtime: Runtime) -> admin.ServerStatus:
    workers = tuple(
        await asyncio.gather(*(_worker_status(name, each) for name, each in runtime.supervisors().items()))
    )
    sizes = await _memory(runtime)
    status = admin.ServerStatus(
        health=_health(runtime),
        version=version.VERSION,
        pid=os.getpid(),
        started_at=runtime.started_at,
        uptime=time.time() - runtime.started_at,
        routing=runtime.settings.routing.mode,
        running=sum(worker.running or 0 for worker in workers),
        waiting=sum(worker.waiting or 0 for worker in workers),
        tokens_per_second=0.0,
        loads=runtime.residency.loads,
        evictions=runtime.residency.evictions,
        models=model_statuses(runtime).data,
        workers=workers,
        speeds=_speeds(runtime),
        memory=sizes,
        advice=(),
    )
    return msgspec.structs.replace(
        status,
        tokens_per_second=sum(speed.tokens_per_second for speed in status.speeds),
        advice=tuple(advice(status, runtime.settings)),
    )


def model_statuses(runtime: Runtime) -> admin.ModelStatusList:
    return admin.ModelStatusList(
        data=tuple(
            model_status(runtime, each) for each in runtime.all_served() if PLUS not in each.manifest.name
        ),
        memory=runtime.residency.budget,
        memory_resident=runtime.residency.bytes_resident,
    )


def model_status(runtime: Runtime, served: ServedModel) -> admin.ModelStatus:
    name, role = served.manifest.name.partition(PLUS)[0], served.manifest.role
    under_way = [each for each in runtime.activities.under_way() if each.model == name]
    status = admin.ModelStatus(
        name=name,
        role=role,
        state=served.state,
        progress=1.0 if served.state == "ready" else 0.0,
        worker="encoder",
        context_length=served.context_length,
        running=sum(each.phase == "running" for each in under_way),
        waiting=sum(each.phase != "running" for each in under_way),
    )
    if role != "chat":
        return msgspec.structs.replace(status, is_resident_at_start=True)
    tenant = runtime.residency.tenant(name)
    return msgspec.structs.replace(
        status,
        progress=tenant.progress,
        worker=name,
        bytes_estimated=tenant.bytes,
        needs=tenant.needs,
        is_pinned=tenant.pinned,
        is_resident_at_start=tenant.at_start,
        last_used=tenant.used_at,
        keep_alive=-1 if tenant.keep_alive == FOREVER else tenant.keep_alive,
        expires_at=tenant.expires_at,
        adapters=tuple(each.name for each in tenant.order.adapters) if tenant.order is not None else (),
        cells=tenant.order.cells if tenant.order is not None else 0,
        error=tenant.trouble.message if tenant.trouble else None,
        error_code=tenant.trouble.detail_code if tenant.trouble else None,
    )


def active_requests(runtime: Runtime) -> admin.ActiveRequestList:
    now = time.time()
    return admin.ActiveRequestList(
        data=tuple(
            admin.ActiveRequest(
                id=each.id,
                request=each.request,
                kind=each.kind,
                model=each.model,
                phase=each.phase,
                started_at=each.started_at,
                seconds=now - each.started_at,
                prompt_tokens=each.prompt_tokens,
                cached_tokens=each.cached_tokens,
                tokens=each.tokens,
            )
            for each in runtime.activities.under_way()
        )
    )


def _health(runtime: Runtime) -> admin.Health:
    if runtime.draining:
        return "draining"
    return "ready" if runtime.is_ready else "not_ready"


def _speeds(runtime: Runtime) -> tuple[admin.ModelSpeed, ...]:
    found = []
    for served in runtime.all_served():
        if served.manifest.role == "chat":
            speed = runtime.activities.speed(served.manifest.name)
            found.append(
                admin.ModelSpeed(
                    model=served.manifest.name,
                    tokens_per_second=speed.tokens_per_second,
                    answers=speed.answers,
                    first_token_p50=speed.first_token_p50,
                    first_token_p99=speed.first_token_p99,
                )
            )
    return tuple(found)


async def _worker_status(name: str, supervisor: Supervisor) -> admin.WorkerStatus:
    rss, pss = await _sizes(supervisor.pid)
    status = admin.WorkerStatus(
        name=name,
        role=supervisor.role,
        state=supervisor.state.value,
        models=supervisor.model_names,
        progress=1.0 if supervisor.facts else min(supervisor.loading.values(), default=0.0),
        restarts=supervisor.restarts,
        error=supervisor.last_error.message if supervisor.last_error else None,
        pid=supervisor.pid,
        memory_rss=rss,
        memory_pss=pss,
    )
    if supervisor.state is not State.READY:
        return status
    with contextlib.suppress(TimeoutError, HearthError):
        stats = await asyncio.wait_for(measure(supervisor), MEASURE_PATIENCE)
        return msgspec.structs.replace(
            status,
            running=stats.running,
            waiting=stats.waiting,
            slots=stats.slots,
            cells=stats.cells,
            cells_used=stats.cells_used,
            steps=stats.steps,
            preemptions=stats.preemptions,
        )
    return status


async def _memory(runtime: Runtime) -> admin.MemoryStatus:
    total = psutil.virtual_memory().total
    rss, pss = await _sizes(os.getpid())
    return admin.MemoryStatus(
        total=total,
        available=memory.available(),
        models=runtime.residency.budget,
        models_resident=runtime.residency.bytes_resident,
        gateway_rss=rss or 0,
        gateway_pss=pss,
    )


async def _sizes(pid: int | None) -> tuple[int | None, int | None]:
    """A process's resident and proportional set; on a thread, for large ones take the kernel a while."""
    return (None, None) if pid is None else await asyncio.to_thread(_read_sizes, pid)


def _read_sizes(pid: int) -> tuple[int | None, int | None]:
    try:
        sizes = psutil.Process(pid).memory_full_info()
    except psutil.Error:
        return None, None  # it has just ended
    return int(sizes.rss), int(sizes.pss)
