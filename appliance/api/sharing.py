"""/v1/vector_stores/{id}/readers, which is ours: who else may read a knowledge base."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from appliance.api.answer import json_body
from appliance.api.context import principal_of, read_request, runtime_of
from appliance.api.vector_stores import base_id
from appliance.errors import InvalidValue, NotFound
from appliance.runtime import Runtime

EVERYONE = "*"
OWNERS = ("jwt:", "cert:")  # of tokens and certificates, which are known by what they are shown with

Reader = Annotated[str, Meta(min_length=1, max_length=256)]


class ShareWith(Struct, forbid_unknown_fields=True, kw_only=True):
    """`readers`: names or ids of keys, owners as /admin/v1/whoami tells them, or `*` for all. They replace
    those that there are."""

    readers: Annotated[list[Reader], Meta(max_length=1000)]


class Readers(Struct, kw_only=True):
    """Whose data the readers own: what the base's rights are bound to."""

    object: str = "vector_store.readers"
    readers: list[str]


async def get_readers(http: Request) -> Response:
    bases = runtime_of(http).knowledge.bases
    return json_body(Readers(readers=list(await bases.readers(principal_of(http), base_id(http)))))


async def set_readers(http: Request) -> Response:
    request, runtime = await read_request(http, ShareWith), runtime_of(http)
    owners = tuple(_owner(runtime, reader) for reader in request.readers)
    await runtime.knowledge.bases.share(principal_of(http), base_id(http), owners)
    return await get_readers(http)


def _owner(runtime: Runtime, reader: str) -> str:
    """Raises InvalidValue for a key that there is none of."""
    if reader == EVERYONE or reader.startswith(OWNERS):
        return reader
    try:
        return runtime.access.keyring.get(reader).owner
    except NotFound as error:
        raise InvalidValue(f"there is no key {reader!r} to share it with", param="readers") from error
