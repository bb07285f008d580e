"""Responses in the archive: the body, and the items of both sides. Kept before anybody is told of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from starlette.requests import Request

from appliance.api.context import principal_of, runtime_of
from appliance.api.responses.context import CONVERSATION, RESPONSE
from appliance.api.responses.items import kept
from appliance.api.responses.replies import ResponseBody
from appliance.errors import NotFound
from appliance.store.objects import KeptItem

_encode = msgspec.json.Encoder().encode


async def keep_response(http: Request, body: ResponseBody, new: Sequence[dict[str, Any]]) -> None:
    """Keep a finished response; one that was queued gives place to it. Its conversation grows by it."""
    archive, principal = runtime_of(http).archive, principal_of(http)
    items = [*kept(new, "in"), *_output_items(body)]
    if body.background:
        await archive.finish(body.id, _encode(body), body.status, items)
    else:
        object = archive.new(
            principal,
            RESPONSE,
            body.id,
            _encode(body),
            state=body.status,
            model=body.model,
            metadata=body.metadata,
        )
        await archive.keep(object, items)
    if body.conversation is not None and body.status in ("completed", "incomplete"):
        said = [msgspec.structs.replace(item, side="") for item in items]
        try:
            await archive.append(principal, CONVERSATION, body.conversation.id, said)
        except NotFound:
            body.warnings.append(f"the conversation {body.conversation.id} was deleted in the meantime")


async def queue_response(http: Request, body: ResponseBody) -> None:
    """Keep a response that is yet to be made."""
    archive, principal = runtime_of(http).archive, principal_of(http)
    await archive.keep(
        archive.new(
            principal,
            RESPONSE,
            body.id,
            _encode(body),
            state="queued",
            model=body.model,
            metadata=body.metadata,
        )
    )


async def found_response(http: Request, id: str) -> dict[str, Any]:
    """The kept body. Raises NotFound."""
    object = await runtime_of(http).archive.get(principal_of(http), RESPONSE, id)
    found: dict[str, Any] = msgspec.json.decode(object.body)
    return found


def body_with(status: str, error: dict[str, str] | None) -> Callable[[bytes], bytes]:
    """What makes a kept body one that has ended so."""

    def change(body: bytes) -> bytes:
        return _encode(msgspec.json.decode(body) | {"status": status, "error": error})

    return change


def _output_items(body: ResponseBody) -> list[KeptItem]:
    return [KeptItem(id=item.id, side="out", body=_encode(item)) for item in body.output]
