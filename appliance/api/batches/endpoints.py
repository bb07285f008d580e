"""POST and GET /v1/batches, one batch, and its cancelling."""

from __future__ import annotations

import secrets
from typing import Annotated

import msgspec
from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from appliance.api.answer import json_body
from appliance.api.batches.records import (
    ENDPOINTS,
    KIND,
    OPEN_STATES,
    WINDOW_SECONDS,
    Batch,
    BatchList,
    CreateBatch,
)
from appliance.api.batches.runner import Runner
from appliance.api.context import principal_of, read_request, runtime_of
from appliance.api.generation import now
from appliance.api.operation import Operation
from appliance.api.query import read_query
from appliance.errors import InvalidValue
from appliance.store.objects import Kept
from appliance.store.rows import Page


class ListBatchesQuery(Struct, kw_only=True):
    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    after: Annotated[str, Meta(max_length=64)] | None = None


async def create_batch(http: Request) -> Response:
    request = await read_request(http, CreateBatch)
    runtime, principal = runtime_of(http), principal_of(http)
    if request.endpoint not in ENDPOINTS:
        raise InvalidValue(
            f"endpoint is {request.endpoint!r}; it may be {', '.join(ENDPOINTS)}", param="endpoint"
        )
    file = await runtime.knowledge.files.get(principal, request.input_file_id)
    if file.purpose != "batch":
        raise InvalidValue(
            f"the file {file.id} has the purpose {file.purpose!r}; a batch reads one of the purpose 'batch'",
            param="input_file_id",
        )
    begun = now()
    batch = Batch(
        id=f"batch_{secrets.token_hex(16)}",
        endpoint=request.endpoint,
        input_file_id=file.id,
        created_at=begun,
        expires_at=begun + WINDOW_SECONDS,
        metadata=request.metadata,
        output_seconds=request.output_expires_after.seconds if request.output_expires_after else None,
    )
    archive = runtime.archive
    await archive.keep(
        archive.new(
            principal,
            KIND,
            batch.id,
            msgspec.json.encode(batch),
            state=batch.status,
            metadata=request.metadata,
            goes_on=True,
        )
    )
    _runner(http).wake()
    return json_body(batch)


async def list_batches(http: Request) -> Response:
    query = read_query(http, ListBatchesQuery)
    found, has_more = await runtime_of(http).archive.find_page(
        principal_of(http), KIND, Page(limit=query.limit, after=query.after or "")
    )
    batches = [_batch(kept) for kept in found]
    return json_body(
        BatchList(
            data=batches,
            first_id=batches[0].id if batches else None,
            last_id=batches[-1].id if batches else None,
            has_more=has_more,
        )
    )


async def get_batch(http: Request) -> Response:
    return json_body(_batch(await runtime_of(http).archive.get(principal_of(http), KIND, _id(http))))


async def cancel_batch(http: Request) -> Response:
    """Its answers so far stay; lines under way are let finish."""
    archive, principal = runtime_of(http).archive, principal_of(http)
    batch = _batch(await archive.get(principal, KIND, _id(http)))
    if batch.status == "cancelled":
        return json_body(batch)
    if batch.status not in OPEN_STATES:
        raise InvalidValue(f"the batch is {batch.status}; it cannot be cancelled", param="batch_id")
    batch.status, batch.cancelling_at = "cancelling", now()
    _runner(http).cancel(batch.id)
    await archive.finish(batch.id, msgspec.json.encode(batch), "cancelling")
    _runner(http).wake()
    return json_body(batch)


def _batch(kept: Kept) -> Batch:
    return msgspec.json.decode(kept.body, type=Batch)


def _runner(http: Request) -> Runner:
    found: Runner = http.app.state.batches
    return found


def _id(http: Request) -> str:
    id: str = http.path_params["batch_id"]
    return id


WRITING = (400, 404, 408, 413, 429, 503, 507)
BATCH = "/v1/batches/{batch_id}"

BATCH_OPERATIONS = (
    Operation(
        "POST",
        "/v1/batches",
        create_batch,
        "Answer a file of requests",
        Batch,
        CreateBatch,
        WRITING,
        access="user",
    ),
    Operation(
        "GET",
        "/v1/batches",
        list_batches,
        "The batches",
        BatchList,
        errors=WRITING,
        query=ListBatchesQuery,
        access="user",
    ),
    Operation("GET", BATCH, get_batch, "How a batch stands", Batch, errors=WRITING, access="user"),
    Operation(
        "POST", BATCH + "/cancel", cancel_batch, "End a batch early", Batch, errors=WRITING, access="user"
    ),
)
