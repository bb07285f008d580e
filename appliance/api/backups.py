"""/admin/v1/backups: backups of this home, in its own directory. Nobody but the server names a file."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from appliance import admin as records
from appliance.api.answer import json_body
from appliance.api.context import read_request, runtime_of
from appliance.api.operation import Operation


async def create_backup(http: Request) -> Response:
    order = await read_request(http, records.BackupOrder)
    return json_body(await runtime_of(http).backups.make(models=order.models))


async def list_backups(http: Request) -> Response:
    return json_body(await runtime_of(http).backups.list())


BACKUP_OPERATIONS = (
    Operation(
        "GET",
        "/admin/v1/backups",
        list_backups,
        "The backups in this home, newest first",
        records.BackupList,
        access="admin",
    ),
    Operation(
        "POST",
        "/admin/v1/backups",
        create_backup,
        "Make a backup of the whole home now; answers when it is whole",
        records.BackupStatus,
        records.BackupOrder,
        (400, 409, 413, 503, 507),
        access="admin",
    ),
)
