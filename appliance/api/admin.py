"""/admin/v1: what an operator sees and does. The records are those of `appliance.admin`."""

from __future__ import annotations

import asyncio
from typing import Annotated

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from appliance.admin import CancelledRequests
from appliance.api import admin_views
from appliance.api.answer import json_body
from appliance.api.context import runtime_of
from appliance.api.query import read_query
from appliance.errors import InvalidValue, NotFound
from appliance.lineup import PLUS
from appliance.residency import keep_alive
from appliance.residency.tenant import Tenant
from appliance.runtime import Runtime


class LoadQuery(Struct, kw_only=True):
    """`wait`: seconds to wait for the load before answering how far it is."""

    wait: Annotated[float, Meta(ge=0, le=600)] = 0.0
    keep_alive: Annotated[str, Meta(max_length=40)] = ""


class UnloadQuery(Struct, kw_only=True):
    """`force`: end the model's requests."""

    force: bool = False


async def get_status(http: Request) -> Response:
    return json_body(await admin_views.server_status(runtime_of(http)))


async def list_model_statuses(http: Request) -> Response:
    return json_body(admin_views.model_statuses(runtime_of(http)))


async def get_model_status(http: Request) -> Response:
    return _status(runtime_of(http), http.path_params["model"])


async def load_model(http: Request) -> Response:
    runtime, query = runtime_of(http), read_query(http, LoadQuery)
    tenant = _tenant(http)
    kept = keep_alive.parse(query.keep_alive) if query.keep_alive else None
    loading = runtime.residency.load(tenant.name, kept)
    await asyncio.wait({loading}, timeout=query.wait)
    return _status(runtime, tenant.name)


async def unload_model(http: Request) -> Response:
    runtime, query, tenant = runtime_of(http), read_query(http, UnloadQuery), _tenant(http)
    runtime.residency.unload(tenant.name, force=query.force)
    if tenant.leaving is not None:
        await asyncio.wait({tenant.leaving})
    return _status(runtime, tenant.name)


async def pin_model(http: Request) -> Response:
    return _pin(http, True)


async def unpin_model(http: Request) -> Response:
    return _pin(http, False)


async def list_active_requests(http: Request) -> Response:
    return json_body(admin_views.active_requests(runtime_of(http)))


async def cancel_request(http: Request) -> Response:
    id = http.path_params["request_id"]
    count = runtime_of(http).activities.cancel(id)
    if not count:
        raise NotFound(f"no request {id!r} is with a model; /admin/v1/requests lists those that are")
    return json_body(CancelledRequests(cancelled=count))


def _pin(http: Request, is_pinned: bool) -> Response:
    runtime, tenant = runtime_of(http), _tenant(http)
    runtime.residency.pin(tenant.name, is_pinned)
    return _status(runtime, tenant.name)


def _tenant(http: Request) -> Tenant:
    """The chat model that the path names. Raises ModelNotFound, InvalidValue."""
    runtime, name = runtime_of(http), http.path_params["model"]
    role = runtime.served(name).manifest.role
    if role != "chat":
        raise InvalidValue(
            f"{name} is a model for {role}: it shares the encoder's process, which always runs; only chat "
            "models are loaded and unloaded",
            param="model",
        )
    return runtime.residency.tenant(name.partition(PLUS)[0])


def _status(runtime: Runtime, name: str) -> Response:
    return json_body(admin_views.model_status(runtime, runtime.served(name)))
