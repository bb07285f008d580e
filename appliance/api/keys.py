"""/admin/v1/keys: the keys of this server, and who the one that asks is taken for."""

from __future__ import annotations

import time

from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response

from appliance.admin import IssuedKey, KeyChange, KeyList, KeyRotation, KeyStatus, NewKey, Whoami
from appliance.api.answer import json_body
from appliance.api.context import principal_of, read_request, runtime_of
from appliance.api.operation import Operation
from appliance.security.access import Access
from appliance.security.keyring import key_status

CHANGING = (400, 403, 404, 409, 413, 507)
KEY = "/admin/v1/keys/{key_id}"


async def get_whoami(http: Request) -> Response:
    principal = principal_of(http)
    return json_body(
        Whoami(
            id=principal.id,
            name=principal.name,
            credential=principal.credential,
            grant=principal.grant,
            expires_at=_access(http).keyring.expires_at(principal.credential),
        )
    )


async def list_keys(http: Request) -> Response:
    now = time.time()
    return json_body(KeyList(data=tuple(key_status(key, now) for key in _access(http).keyring.list())))


async def get_key(http: Request) -> Response:
    return json_body(key_status(_access(http).keyring.get(_id(http)), time.time()))


async def create_key(http: Request) -> Response:
    new = await read_request(http, NewKey)
    key, secret = await _access(http).create(new.name, new.grant, owner=new.owner, expires_at=new.expires_at)
    return _issued(key_status(key, time.time()), secret)


async def update_key(http: Request) -> Response:
    change = await read_request(http, KeyChange)
    key = await _access(http).update(
        _id(http),
        name=None if change.name is UNSET else change.name,
        grant=None if change.grant is UNSET else change.grant,
        expires_at=-1 if change.expires_at is UNSET else change.expires_at,
    )
    return json_body(key_status(key, time.time()))


async def rotate_key(http: Request) -> Response:
    rotation = await read_request(http, KeyRotation)
    key, secret = await _access(http).rotate(_id(http), rotation.overlap)
    return _issued(key_status(key, time.time()), secret)


async def revoke_key(http: Request) -> Response:
    key = await _access(http).revoke(_id(http))
    return json_body(key_status(key, time.time()))


def _issued(status: KeyStatus, secret: str) -> Response:
    answer = json_body(IssuedKey(key=status, secret=secret))
    answer.headers["cache-control"] = "no-store"
    return answer


def _access(http: Request) -> Access:
    return runtime_of(http).access


def _id(http: Request) -> str:
    id: str = http.path_params["key_id"]
    return id


KEY_OPERATIONS = (
    Operation("GET", "/admin/v1/whoami", get_whoami, "Who the server takes you for", Whoami, access="reader"),
    Operation("GET", "/admin/v1/keys", list_keys, "The keys, without their secrets", KeyList, access="admin"),
    Operation(
        "POST",
        "/admin/v1/keys",
        create_key,
        "Make a key; its secret is told this once",
        IssuedKey,
        NewKey,
        CHANGING,
        access="admin",
    ),
    Operation("GET", KEY, get_key, "One key", KeyStatus, errors=(404,), access="admin"),
    Operation(
        "POST",
        KEY,
        update_key,
        "Change what a key may, its name or its expiry",
        KeyStatus,
        KeyChange,
        CHANGING,
        access="admin",
    ),
    Operation(
        "POST",
        f"{KEY}/rotate",
        rotate_key,
        "A new secret for a key",
        IssuedKey,
        KeyRotation,
        CHANGING,
        access="admin",
    ),
    Operation(
        "POST",
        f"{KEY}/revoke",
        revoke_key,
        "End a key, and what runs with it",
        KeyStatus,
        errors=CHANGING,
        access="admin",
    ),
)
