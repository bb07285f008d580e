"""GET /props, /slots and /health: llama-server's look at itself, read-only."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from appliance import version
from appliance.api.answer import json_body
from appliance.api.context import runtime_of
from appliance.api.defacto.tokens import default_model
from appliance.api.query import read_query
from appliance.api.visible import models_of
from appliance.workers.handles import measure


class ModelQuery(Struct, kw_only=True):
    """Without `model`: the first chat model."""

    model: Annotated[str, Meta(max_length=256)] | None = None


class Props(Struct, kw_only=True):
    default_generation_settings: dict[str, Any]
    total_slots: int
    model_alias: str
    model_path: str
    modalities: dict[str, bool]
    build_info: str


class Slot(Struct, kw_only=True):
    """Answers are computed together; which of them has which slot is nobody's business."""

    id: int
    n_ctx: int
    is_processing: bool


async def get_props(http: Request) -> Response:
    name = read_query(http, ModelQuery).model or default_model(http)
    runtime = runtime_of(http)
    models_of(http).generator(name)
    generator = runtime.settings.generator
    parameters = {
        "temperature": generator.temperature,
        "top_k": generator.top_k,
        "top_p": generator.top_p,
        "min_p": generator.min_p,
    }
    return json_body(
        Props(
            default_generation_settings={
                "n_ctx": models_of(http).served(name).context_length,
                "params": parameters,
            },
            total_slots=generator.slots,
            model_alias=name,
            model_path=name,
            modalities={"vision": False, "audio": False},
            build_info=f"hearth-{version.VERSION}",
        )
    )


async def list_slots(http: Request) -> Response:
    name = read_query(http, ModelQuery).model or default_model(http)
    runtime = runtime_of(http)
    models_of(http).generator(name)
    supervisor = runtime.supervisors().get(name)
    running = (await measure(supervisor)).running if supervisor is not None and supervisor.facts else 0
    length = models_of(http).served(name).context_length
    slots = [
        Slot(id=number, n_ctx=length, is_processing=number < running)
        for number in range(runtime.settings.generator.slots)
    ]
    return Response(msgspec.json.encode(slots), media_type="application/json")
