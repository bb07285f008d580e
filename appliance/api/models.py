"""GET /v1/models and /v1/models/{id}."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from appliance.api.answer import json_body
from appliance.api.context import runtime_of
from appliance.api.replies import ModelCard, ModelList
from appliance.runtime import ServedModel


async def list_models(http: Request) -> Response:
    return json_body(ModelList(data=[_card(model) for model in runtime_of(http).all_served()]))


async def get_model(http: Request) -> Response:
    return json_body(_card(runtime_of(http).served(http.path_params["model"])))


def _card(model: ServedModel) -> ModelCard:
    manifest = model.manifest
    return ModelCard(
        id=manifest.name,
        created=int(model.installed_at),
        owned_by="hearth",
        role=manifest.role,
        state=model.state,
        context_length=model.context_length,
        dimensions=manifest.pooling.dimensions if manifest.pooling else 0,
        languages=list(manifest.languages),
        licence=manifest.licence,
    )
