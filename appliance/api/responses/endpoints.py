"""POST /v1/responses, and what can be done with a response afterwards."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from appliance.api.answer import json_answer, json_body, noted, route_headers, warning_headers
from appliance.api.context import principal_of, read_request, runtime_of
from appliance.api.generation import now
from appliance.api.query import read_query
from appliance.api.responses import background, rules
from appliance.api.responses.compaction import compact
from appliance.api.responses.context import RESPONSE, earlier_items, resolved, since_compaction
from appliance.api.responses.fitting import count_tokens
from appliance.api.responses.items import input_items, shown
from appliance.api.responses.keeping import found_response
from appliance.api.responses.prompting import context_of
from appliance.api.responses.replies import (
    CompactedResponse,
    Deleted,
    InputTokens,
    ItemList,
    ResponseBody,
    new_id,
    response_usage,
)
from appliance.api.responses.running import Job, prepare
from appliance.api.responses.schemas import (
    CompactResponse,
    CountInputTokens,
    CreateResponse,
    ItemsQuery,
    RetrieveQuery,
)
from appliance.api.responses.turns import turns_of
from appliance.api.sse import EventStream, named_event, unless_client_leaves
from appliance.api.visible import models_of
from appliance.errors import InvalidValue
from appliance.store.rows import Page

_encode = msgspec.json.Encoder().encode


async def create_response(http: Request) -> Response:
    request = await read_request(http, CreateResponse)
    job = await prepare(http, request)
    if request.background:
        run = await background.begin(http, job)
        if request.stream:
            return EventStream(run.follow(), warning_headers(job.body.warnings))
        return noted(job.body, job.body.warnings)
    await unless_client_leaves(http, job.start())
    if request.stream:
        return EventStream(_lines(job), route_headers(job.routes, job.body.warnings))
    body = await unless_client_leaves(http, _whole(job))
    return json_answer(body, job.routes, body.warnings)


async def _lines(job: Job) -> AsyncGenerator[bytes]:
    async for event in job.events():
        yield named_event(event.type, _encode(event))


async def _whole(job: Job) -> ResponseBody:
    """Raises what ended the generation, so that it has its proper status."""
    async for _ in job.events(raises=True):
        pass
    return job.body


async def get_response(http: Request) -> Response:
    id = _id(http)
    include_of(http)
    query = read_query(http, RetrieveQuery, but=("include", "include[]"))
    if query.stream:
        return await _followed(http, id, query.starting_after)
    if query.starting_after is not None:
        raise InvalidValue("starting_after needs `stream=true`", param="starting_after")
    live = background.live_body(http, id)
    if live is not None:
        await runtime_of(http).archive.get(principal_of(http), RESPONSE, id)  # whose it is
        return json_body(live)
    body = await found_response(http, id)
    return Response(_encode(body), media_type="application/json")


async def _followed(http: Request, id: str, after: int | None) -> Response:
    """A background response's events, from the beginning or after the one numbered `after`."""
    await found_response(http, id)
    run = background.background_of(http).find(id)
    if run is None:
        raise InvalidValue(
            "the events of this response are not here: only responses made in the background can be followed,"
            " for a while",
            param="stream",
        )
    start = 0 if after is None else after + 1
    return EventStream(run.follow(start), {})


async def delete_response(http: Request) -> Response:
    id = _id(http)
    await runtime_of(http).archive.get(principal_of(http), RESPONSE, id)
    await background.background_of(http).cancel(id)
    await runtime_of(http).archive.remove(principal_of(http), RESPONSE, id)
    return json_body(Deleted(id=id, object="response"))


async def cancel_response(http: Request) -> Response:
    id = _id(http)
    body = await found_response(http, id)
    if not body["background"]:
        raise InvalidValue("only a response that is made in the background can be cancelled", param="id")
    await background.background_of(http).cancel(id)
    return Response(_encode(await found_response(http, id)), media_type="application/json")


async def list_input_items(http: Request) -> Response:
    query = read_query(http, ItemsQuery, but=("include", "include[]"))
    page = Page(limit=query.limit, order=query.order, after=query.after or "")
    found, has_more = await runtime_of(http).archive.items_page(
        principal_of(http), RESPONSE, _id(http), page, "in"
    )
    return json_body(
        item_list([msgspec.json.decode(item.body) for item in found], has_more, include_of(http))
    )


async def count_input_tokens(http: Request) -> Response:
    request = await read_request(http, CountInputTokens)
    warnings = [*rules.check_context(request), *rules.check_count(request)]
    prompt = (await context_of(http, request)).prompt()
    count = await unless_client_leaves(http, count_tokens(http, request.model, prompt))
    return noted(InputTokens(input_tokens=count), warnings)


async def compact_response(http: Request) -> Response:
    """Sum up a conversation; the answer's output goes first into the next request's input."""
    request = await read_request(http, CompactResponse)
    warnings = rules.check_compact(request)
    models_of(http).check(request.model, "chat")
    earlier = await earlier_items(http, request)
    items = since_compaction([*earlier, *await resolved(http, input_items(request.input))])
    turns = turns_of(items)
    item, usage = await unless_client_leaves(http, compact(http, request.model, turns, request.instructions))
    body = CompactedResponse(
        id=new_id("resp"),
        created_at=now(),
        output=[item],
        usage=response_usage(usage),
        warnings=warnings,
    )
    return noted(body, warnings)


def item_list(items: list[dict[str, Any]], has_more: bool, include: list[str]) -> ItemList:
    return ItemList(
        data=[shown(item, include) for item in items],
        first_id=items[0]["id"] if items else None,
        last_id=items[-1]["id"] if items else None,
        has_more=has_more,
    )


def include_of(http: Request) -> list[str]:
    """Raises InvalidValue for what cannot be included."""
    wanted = [value for name, value in http.query_params.multi_items() if name in ("include", "include[]")]
    rules.check_include(wanted)
    return wanted


def _id(http: Request) -> str:
    id: str = http.path_params["response_id"]
    return id
