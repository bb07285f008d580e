"""/admin/v1/history and /admin/v1/logs: the server over time, and what it said of itself."""

from __future__ import annotations

import logging
from typing import Annotated, Literal

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from appliance import admin as records
from appliance.api.answer import json_body
from appliance.api.context import runtime_of
from appliance.api.operation import Operation
from appliance.api.query import read_query
from appliance.api.sse import unless_client_leaves


class HistoryQuery(Struct, kw_only=True):
    """`seconds`: how far back; up to an hour in fine steps, up to a day in coarse ones."""

    seconds: Annotated[float, Meta(ge=5, le=86_400)] = 600.0


class LogQuery(Struct, kw_only=True):
    """The newest lines; or those after a number. `wait`: seconds for a first one. `level`: the least."""

    after: Annotated[int, Meta(ge=-1, le=1 << 53)] = -1
    limit: Annotated[int, Meta(ge=1, le=4096)] = 200
    wait: Annotated[float, Meta(ge=0, le=60)] = 0.0
    level: Literal["debug", "info", "warning", "error"] = "debug"


async def get_history(http: Request) -> Response:
    return json_body(runtime_of(http).recorder.history(read_query(http, HistoryQuery).seconds))


async def list_logs(http: Request) -> Response:
    query, lines = read_query(http, LogQuery), runtime_of(http).log_lines
    if query.wait and query.after >= 0:
        await unless_client_leaves(http, lines.wait_beyond(query.after, query.wait))
    return json_body(
        lines.page(query.after, query.limit, logging.getLevelNamesMapping()[query.level.upper()])
    )


WATCHING_OPERATIONS = (
    Operation(
        "GET",
        "/admin/v1/history",
        get_history,
        "The server over time: tokens, latencies, queues, memory, routes",
        records.History,
        errors=(400,),
        query=HistoryQuery,
        access="operator",
    ),
    Operation(
        "GET",
        "/admin/v1/logs",
        list_logs,
        "The latest lines of the server's log; waits for new ones with `after` and `wait`",
        records.LogPage,
        errors=(400,),
        query=LogQuery,
        access="operator",
    ),
)
