"""GET /v1/models and /v1/models/{id}."""

from __future__ import annotations

from collections import Counter

from starlette.requests import Request
from starlette.responses import Response

from appliance.api.answer import json_body
from appliance.api.context import principal_of, runtime_of
from appliance.api.grounding import SEPARATOR
from appliance.api.replies import ModelCard, ModelList
from appliance.runtime import ServedModel
from appliance.store.rows import Page

MOST_BASES = 100


async def list_models(http: Request) -> Response:
    runtime = runtime_of(http)
    served = runtime.all_served()
    cards = [_card(model) for model in served]
    if runtime.settings.knowledge.enabled:
        page = Page(limit=MOST_BASES)
        bases, _ = await runtime.knowledge.bases.list(principal_of(http), page)
        times = Counter(status.base.name for status in bases)
        cards += [
            _card(model, base.name if base.name and times[base.name] == 1 else base.id)
            for base in (status.base for status in bases)
            for model in served
            if model.manifest.role == "chat"
        ]
    return json_body(ModelList(data=cards))


async def get_model(http: Request) -> Response:
    """A model, or MODEL@BASE: the model answering from a knowledge base."""
    runtime = runtime_of(http)
    name, _, base = http.path_params["model"].partition(SEPARATOR)
    model = runtime.served(name)
    if base:
        found = await runtime.knowledge.bases.find(principal_of(http), base)
        base = found.name or found.id
    return json_body(_card(model, base))


def _card(model: ServedModel, base: str = "") -> ModelCard:
    manifest = model.manifest
    return ModelCard(
        id=f"{manifest.name}{SEPARATOR}{base}" if base else manifest.name,
        created=int(model.installed_at),
        owned_by="hearth",
        role=manifest.role,
        state=model.state,
        context_length=model.context_length,
        dimensions=manifest.pooling.dimensions if manifest.pooling else 0,
        languages=list(manifest.languages),
        licence=manifest.licence,
    )
