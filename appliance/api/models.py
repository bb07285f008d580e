"""GET /v1/models and /v1/models/{id}."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response

from appliance.api.answer import json_body
from appliance.api.context import principal_of, runtime_of
from appliance.api.grounding import SEPARATOR
from appliance.api.replies import ModelCard, ModelList
from appliance.api.visible import models_of
from appliance.routing.router import Figures
from appliance.runtime import ServedModel
from appliance.store.rows import Page

MOST_BASES = 100


async def list_models(http: Request) -> Response:
    runtime = runtime_of(http)
    served = models_of(http).all()
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
    figures = runtime.router.figures()
    online = [
        _online_card(each, runtime.started_at)
        for each in figures
        if not each.model.is_local and models_of(http).has(each.model.public_name)
    ]
    known = {card.id: card for card in cards + online}
    aliases = [
        _alias_card(name, [model.public_name for model in models], known)
        for name, models in runtime.router.aliases().items()
    ]
    return json_body(ModelList(data=cards + online + [card for card in aliases if card is not None]))


async def get_model(http: Request) -> Response:
    """A model, or MODEL@BASE: the model answering from a knowledge base."""
    runtime = runtime_of(http)
    name, _, base = http.path_params["model"].partition(SEPARATOR)
    online = {
        word: _online_card(each, runtime.started_at)
        for each in runtime.router.figures()
        if not each.model.is_local and models_of(http).has(each.model.public_name)
        for word in (each.model.public_name, each.model.id)
    }
    if name in online and not base:
        return json_body(online[name])
    aliases = runtime.router.aliases()
    if name in aliases and not base:
        known = online | {model.manifest.name: _card(model) for model in models_of(http).all()}
        card = _alias_card(name, [model.public_name for model in aliases[name]], known)
        if card is not None:
            return json_body(card)
    model = models_of(http).served(name)
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


def _online_card(figures: Figures, created: float) -> ModelCard:
    model = figures.model
    is_up = any(place.down_for == 0 for place in figures.places)
    return ModelCard(
        id=model.public_name,
        created=int(created),
        owned_by=model.platform,
        role=model.role,
        state="ready" if is_up else "down",
        context_length=model.context_length,
        dimensions=0,
        languages=[],
        licence="",
        route="online",
    )


def _alias_card(name: str, targets: Sequence[str], known: Mapping[str, ModelCard]) -> ModelCard | None:
    """The alias as its first model, under its own name; None while it stands for nothing."""
    first = next((known[target] for target in targets if target in known), None)
    return None if first is None else replace(first, id=name, alias_of=list(targets))
