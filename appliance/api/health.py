"""What watches a server: /healthz (the process lives), /readyz (every model answers), /metrics, /version."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from appliance import version
from appliance.api.answer import json_body
from appliance.api.context import runtime_of
from appliance.telemetry.metrics import CONTENT_TYPE


class Health(Struct, kw_only=True):
    status: Literal["ok"] = "ok"


class WorkerHealth(Struct, kw_only=True):
    """`progress`: 0 to 1 while loading."""

    state: str
    models: list[str]
    progress: float
    restarts: int
    error: str | None


class Readiness(Struct, kw_only=True):
    status: Literal["ready", "not_ready", "draining"]
    workers: dict[str, WorkerHealth]


class Version(Struct, kw_only=True):
    version: str


async def get_health(_: Request) -> Response:
    return json_body(Health())


async def get_version(_: Request) -> Response:
    return json_body(Version(version=version.VERSION))


async def get_readiness(http: Request) -> Response:
    runtime = runtime_of(http)
    workers = {
        name: WorkerHealth(
            state=supervisor.state.value,
            models=list(supervisor.model_names),
            progress=1.0 if supervisor.facts else min(supervisor.loading.values(), default=0.0),
            restarts=supervisor.restarts,
            error=supervisor.last_error.message if supervisor.last_error else None,
        )
        for name, supervisor in runtime.supervisors().items()
    }
    if runtime.draining:
        return json_body(Readiness(status="draining", workers=workers), 503)
    if not runtime.is_ready:
        return json_body(Readiness(status="not_ready", workers=workers), 503)
    return json_body(Readiness(status="ready", workers=workers))


async def get_metrics(http: Request) -> Response:
    runtime = runtime_of(http)
    await runtime.figures.refresh()
    return Response(runtime.metrics.exposition(), headers={"content-type": CONTENT_TYPE})
