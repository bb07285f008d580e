"""GET /api/tags, /api/ps, /api/version and POST /api/show: the models, in Ollama's words."""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from appliance import version
from appliance.api.answer import json_body, noted
from appliance.api.context import read_request, runtime_of
from appliance.api.ollama.replies import created_at
from appliance.api.ollama.schemas import SHOW_RULES, ShowRequest
from appliance.api.ollama.translate import model_of
from appliance.api.rules import apply
from appliance.api.visible import models_of
from appliance.errors import MissingParameter
from appliance.runtime import ServedModel

FAR_FUTURE = 253_402_214_400.0  # the end of the year 9999: a model that stays
CAPABILITIES = {"chat": ["completion", "tools"], "embed": ["embedding"], "rerank": ["rerank"]}


class Details(Struct, kw_only=True):
    parent_model: str = ""
    format: str
    family: str
    families: list[str]
    parameter_size: str = ""
    quantization_level: str = ""


class TagEntry(Struct, kw_only=True):
    name: str
    model: str
    modified_at: str
    size: int
    digest: str
    details: Details


class Tags(Struct, kw_only=True):
    models: list[TagEntry]


class ProcessEntry(Struct, kw_only=True):
    name: str
    model: str
    size: int
    digest: str
    details: Details
    expires_at: str
    size_vram: int = 0
    context_length: int


class Processes(Struct, kw_only=True):
    models: list[ProcessEntry]


class Shown(Struct, kw_only=True):
    """`template` and `modelfile` are empty: a model brings its own template, in its file."""

    modified_at: str
    license: str
    modelfile: str = ""
    template: str = ""
    parameters: str = ""
    details: Details
    model_info: dict[str, Any]
    capabilities: list[str]


class OllamaVersion(Struct, kw_only=True):
    version: str


async def list_tags(http: Request) -> Response:
    return json_body(Tags(models=[_tag(model) for model in models_of(http).all()]))


async def list_processes(http: Request) -> Response:
    """The models that are in memory."""
    runtime = runtime_of(http)
    expiries = {tenant.name: tenant.expires_at for tenant in runtime.residency.tenants()}
    entries = []
    for model in models_of(http).all():
        if model.state == "ready":
            tag = _tag(model)
            entries.append(
                ProcessEntry(
                    name=tag.name,
                    model=tag.model,
                    size=tag.size,
                    digest=tag.digest,
                    details=tag.details,
                    expires_at=created_at(expiries.get(tag.name) or FAR_FUTURE),
                    context_length=model.context_length,
                )
            )
    return json_body(Processes(models=entries))


async def show_model(http: Request) -> Response:
    request = await read_request(http, ShowRequest)
    warnings = list(apply(request, SHOW_RULES))
    name = request.model or request.name
    if name is None:
        raise MissingParameter("the parameter 'model' is required", param="model")
    model = models_of(http).served(model_of(name))
    manifest = model.manifest
    info: dict[str, Any] = {
        "general.architecture": manifest.format,
        "general.basename": manifest.name,
        "general.languages": list(manifest.languages),
        f"{manifest.format}.context_length": model.context_length,
    }
    if manifest.pooling is not None:
        info[f"{manifest.format}.embedding_length"] = manifest.pooling.dimensions
    shown = Shown(
        modified_at=created_at(model.installed_at),
        license=manifest.licence,
        details=_details(model),
        model_info=info,
        capabilities=CAPABILITIES[manifest.role],
    )
    return noted(shown, warnings)


async def get_ollama_version(_: Request) -> Response:
    return json_body(OllamaVersion(version=version.VERSION))


def _tag(model: ServedModel) -> TagEntry:
    manifest = model.manifest
    return TagEntry(
        name=manifest.name,
        model=manifest.name,
        modified_at=created_at(model.installed_at),
        size=sum(file.bytes for file in manifest.files),
        digest=manifest.weights.sha256,
        details=_details(model),
    )


def _details(model: ServedModel) -> Details:
    format = model.manifest.format
    return Details(format=format, family=format, families=[format])
