"""/v1/conversations: items that are kept together, for responses to go on from."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from appliance.api.answer import json_body
from appliance.api.context import principal_of, read_request, runtime_of
from appliance.api.query import read_query
from appliance.api.responses.context import CONVERSATION, resolved
from appliance.api.responses.endpoints import include_of, item_list
from appliance.api.responses.items import kept, normal, shown
from appliance.api.responses.replies import Conversation, Deleted, new_id
from appliance.api.responses.schemas import CreateConversation, CreateItems, Item, ItemsQuery, UpdateMetadata
from appliance.api.responses.turns import check_items
from appliance.store.objects import Kept, KeptItem
from appliance.store.rows import Page


async def create_conversation(http: Request) -> Response:
    request = await read_request(http, CreateConversation)
    archive, principal = runtime_of(http).archive, principal_of(http)
    items = await _normal(http, request.items or [])
    object = archive.new(principal, CONVERSATION, new_id("conv"), b"{}", metadata=request.metadata)
    await archive.keep(object, items)
    return json_body(_shown(object))


async def get_conversation(http: Request) -> Response:
    return json_body(_shown(await runtime_of(http).archive.get(principal_of(http), CONVERSATION, _id(http))))


async def update_conversation(http: Request) -> Response:
    request = await read_request(http, UpdateMetadata)
    changed = await runtime_of(http).archive.change(
        principal_of(http), CONVERSATION, _id(http), lambda kept: kept.body, metadata=request.metadata or {}
    )
    return json_body(_shown(changed))


async def delete_conversation(http: Request) -> Response:
    """Its items go with it; responses that went on from it stay."""
    await runtime_of(http).archive.remove(principal_of(http), CONVERSATION, _id(http))
    return json_body(Deleted(id=_id(http), object="conversation.deleted"))


async def create_conversation_items(http: Request) -> Response:
    request = await read_request(http, CreateItems)
    include = include_of(http)
    items = await _normal(http, request.items)
    await runtime_of(http).archive.append(principal_of(http), CONVERSATION, _id(http), items)
    return json_body(item_list([msgspec.json.decode(item.body) for item in items], False, include))


async def list_conversation_items(http: Request) -> Response:
    include = include_of(http)
    query = read_query(http, ItemsQuery, but=("include", "include[]"))
    page = Page(limit=query.limit, order=query.order, after=query.after or "")
    found, has_more = await runtime_of(http).archive.items_page(
        principal_of(http), CONVERSATION, _id(http), page
    )
    return json_body(item_list([msgspec.json.decode(item.body) for item in found], has_more, include))


async def get_conversation_item(http: Request) -> Response:
    include = include_of(http)
    found = await runtime_of(http).archive.item(principal_of(http), http.path_params["item_id"], _id(http))
    body = shown(msgspec.json.decode(found.body), include)
    return Response(msgspec.json.encode(body), media_type="application/json")


async def delete_conversation_item(http: Request) -> Response:
    conversation = await runtime_of(http).archive.remove_item(
        principal_of(http), CONVERSATION, _id(http), http.path_params["item_id"]
    )
    return json_body(_shown(conversation))


async def _normal(http: Request, items: list[Item]) -> list[KeptItem]:
    """Raises the errors of `turns` for items that no model could be given."""
    found = await resolved(http, items)
    check_items(found, "items")
    return kept([normal(item) for item in found], "")


def _shown(kept: Kept) -> Conversation:
    return Conversation(id=kept.id, created_at=int(kept.created_at), metadata=kept.metadata)


def _id(http: Request) -> str:
    id: str = http.path_params["conversation_id"]
    return id
