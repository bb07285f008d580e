"""/admin/v1: models on the server's disks, and the jobs that bring them in and check them.

For administrators: a path is any that the server's process can read.
"""

from __future__ import annotations

import asyncio
from typing import Annotated

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from appliance import admin
from appliance.api.answer import json_body
from appliance.api.context import read_request, runtime_of
from appliance.api.operation import Operation
from appliance.api.query import read_query
from appliance.errors import InvalidValue

Path = Annotated[str, Meta(min_length=1, max_length=4096)]


class FolderQuery(Struct, kw_only=True):
    """`path`: a folder of the server's machine; the root without."""

    path: Annotated[str, Meta(max_length=4096)] = "/"


class ImportBody(Struct, forbid_unknown_fields=True, kw_only=True):
    """`path`: a GGUF file or a folder with an ONNX model, on the server; `name`: after it by default."""

    path: Path
    name: Annotated[str, Meta(min_length=1, max_length=96)] | None = None


async def list_folder(http: Request) -> Response:
    query = read_query(http, FolderQuery)
    return json_body(await asyncio.to_thread(runtime_of(http).stock.folder, query.path))


async def import_model(http: Request) -> Response:
    body = await read_request(http, ImportBody)
    return json_body(runtime_of(http).stock.bring_in(body.path, body.name))


class FetchBody(Struct, forbid_unknown_fields=True, kw_only=True):
    """Either `model`, one of the catalogue, or `pack`: tiny or starter."""

    model: Annotated[str, Meta(min_length=1, max_length=96)] | None = None
    pack: Annotated[str, Meta(min_length=1, max_length=64)] | None = None


async def list_catalogue(http: Request) -> Response:
    return json_body(await asyncio.to_thread(runtime_of(http).stock.catalogue))


async def fetch_model(http: Request) -> Response:
    body = await read_request(http, FetchBody)
    stock = runtime_of(http).stock
    if body.model is not None and body.pack is None:
        return json_body(stock.fetch(body.model))
    if body.pack is not None and body.model is None:
        return json_body(stock.fetch_pack(body.pack))
    raise InvalidValue("give either model or pack, and not both", param="model")


async def verify_model(http: Request) -> Response:
    return json_body(runtime_of(http).stock.verify(http.path_params["model"]))


async def list_jobs(http: Request) -> Response:
    return json_body(admin.ModelJobList(data=runtime_of(http).stock.jobs()))


async def get_job(http: Request) -> Response:
    return json_body(runtime_of(http).stock.job(http.path_params["job"]))


async def cancel_job(http: Request) -> Response:
    return json_body(runtime_of(http).stock.cancel(http.path_params["job"]))


STOCK_OPERATIONS = (
    Operation(
        "GET",
        "/admin/v1/folder",
        list_folder,
        "A folder of the server's machine and the models that lie there",
        admin.Folder,
        errors=(400, 503),
        query=FolderQuery,
        access="admin",
    ),
    Operation(
        "POST",
        "/admin/v1/models/import",
        import_model,
        "Begin to bring in a model from the server's disk or a stick",
        admin.ModelJob,
        ImportBody,
        errors=(400, 409, 503),
        access="admin",
    ),
    Operation(
        "GET",
        "/admin/v1/catalogue",
        list_catalogue,
        "The models that can be fetched where there is a network, and whether that is allowed",
        admin.ModelCatalogue,
        errors=(503,),
        access="operator",
    ),
    Operation(
        "POST",
        "/admin/v1/models/fetch",
        fetch_model,
        "Begin to fetch a model of the catalogue, or a pack",
        admin.ModelJob,
        FetchBody,
        errors=(400, 403, 404, 409, 503),
        access="admin",
    ),
    Operation(
        "POST",
        "/admin/v1/models/{model}/verify",
        verify_model,
        "Begin to hash a model's files",
        admin.ModelJob,
        errors=(404, 409, 503),
        access="operator",
    ),
    Operation(
        "GET",
        "/admin/v1/jobs",
        list_jobs,
        "The latest jobs with models, how far they are and how they ended",
        admin.ModelJobList,
        errors=(503,),
        access="operator",
    ),
    Operation(
        "GET",
        "/admin/v1/jobs/{job}",
        get_job,
        "One job",
        admin.ModelJob,
        errors=(404, 503),
        access="operator",
    ),
    Operation(
        "POST",
        "/admin/v1/jobs/{job}/cancel",
        cancel_job,
        "End a job",
        admin.ModelJob,
        errors=(404, 503),
        access="operator",
    ),
)
