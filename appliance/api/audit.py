"""/admin/v1/audit: the audit log, read, followed and checked. The records are those of `appliance.audit`."""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from appliance import audit as records
from appliance.api.answer import json_body
from appliance.api.context import read_request, runtime_of
from appliance.api.operation import Operation
from appliance.api.query import read_query
from appliance.api.sse import unless_client_leaves
from appliance.api.trail import trail_of
from appliance.errors import InvalidValue, Unavailable
from appliance.security.audit.log import AuditLog

MOST_LINES = 1000
Name = Annotated[str, Meta(max_length=256)]


class AuditQuery(Struct, kw_only=True):
    """The newest lines; or those before, or after, a number. `wait`: seconds for a first line after `after`.
    `user`: a name, or the hash that lines have. `status`: of 400, for example, all from 400 on.
    """

    after: Annotated[int, Meta(ge=-1, le=1 << 53)] = -1
    before: Annotated[int, Meta(ge=0, le=1 << 53)] = 0
    limit: Annotated[int, Meta(ge=1, le=MOST_LINES)] = 100
    wait: Annotated[float, Meta(ge=0, le=60)] = 0.0
    user: Name = ""
    model: Name = ""
    trace: Name = ""
    route: Literal["", "local", "online"] = ""
    status: Annotated[int, Meta(ge=0, le=599)] = 0
    sensitive: bool = False


async def list_audit(http: Request) -> Response:
    query, audit = read_query(http, AuditQuery), _audit(http)
    if query.after >= 0 and query.before:
        raise InvalidValue("after and before are both given; one of them", param="before")
    user = {query.user, audit.hash_of(query.user)}

    def wanted(entry: records.AuditEntry) -> bool:
        return (
            (not query.user or entry.user in user)
            and (not query.model or entry.model == query.model)
            and (not query.trace or entry.trace == query.trace)
            and (not query.route or entry.route == query.route)
            and entry.status >= query.status
            and (entry.sensitive or not query.sensitive)
        )

    if query.after < 0:
        return json_body(await audit.before(query.before, query.limit, wanted))
    trail_of(http).is_following = True
    if query.wait:
        await unless_client_leaves(http, audit.wait_beyond(query.after, query.wait))
    return json_body(await audit.after(query.after, query.limit, wanted))


async def get_audit_status(http: Request) -> Response:
    audit = runtime_of(http).audit
    if audit is None:
        return json_body(records.AuditStatus(enabled=False))
    return json_body(await asyncio.to_thread(audit.status))


async def get_audit_checkpoint(http: Request) -> Response:
    return json_body(_audit(http).checkpoint())


async def verify_audit(http: Request) -> Response:
    asked = await read_request(http, records.AuditCheck)
    report = asyncio.to_thread(_audit(http).verify, asked.checkpoints)
    return json_body(await unless_client_leaves(http, report))


def _audit(http: Request) -> AuditLog:
    audit = runtime_of(http).audit
    if audit is None:
        raise Unavailable("there is no audit log here (audit.enabled)")
    return audit


AUDIT_OPERATIONS = (
    Operation(
        "GET",
        "/admin/v1/audit",
        list_audit,
        "Lines of the audit log; waits for new ones with `after` and `wait`",
        records.AuditPage,
        errors=(400, 503),
        query=AuditQuery,
        access="admin",
    ),
    Operation(
        "GET",
        "/admin/v1/audit/status",
        get_audit_status,
        "How the audit log is doing",
        records.AuditStatus,
        access="operator",
    ),
    Operation(
        "GET",
        "/admin/v1/audit/checkpoint",
        get_audit_checkpoint,
        "The audit log so far in one number, to be kept elsewhere",
        records.AuditCheckpoint,
        errors=(503,),
        access="admin",
    ),
    Operation(
        "POST",
        "/admin/v1/audit/verify",
        verify_audit,
        "Check the whole audit log for changes",
        records.AuditReport,
        records.AuditCheck,
        (400, 413, 503),
        access="admin",
    ),
)
