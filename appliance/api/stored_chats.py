"""Chat completions with `store: true`: kept when whole, then listed, looked at, changed and deleted."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from appliance.api.answer import json_body
from appliance.api.context import principal_of, read_request, runtime_of
from appliance.api.generation import Answer, Choice
from appliance.api.opening import Generation
from appliance.api.query import read_query
from appliance.api.replies import ChatCompletion
from appliance.api.schemas import ChatRequest, Label, Metadata
from appliance.records import Delta, Ended, Started
from appliance.routing.request import Events
from appliance.store.objects import Kept, KeptItem
from appliance.store.rows import Page

KIND = "chat.completion"
_encode = msgspec.json.Encoder().encode


class ListChatsQuery(Struct, kw_only=True):
    """`metadata[NAME]=VALUE` may be given too, several times."""

    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    order: Literal["asc", "desc"] = "asc"
    after: Label | None = None
    model: Label | None = None


class ListMessagesQuery(Struct, kw_only=True):
    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    order: Literal["asc", "desc"] = "asc"
    after: Label | None = None


class UpdateChat(Struct, forbid_unknown_fields=True, kw_only=True):
    metadata: Metadata | None


class StoredList(Struct, kw_only=True):
    object: Literal["list"] = "list"
    data: list[Any]
    first_id: str | None
    last_id: str | None
    has_more: bool


class DeletedChat(Struct, kw_only=True):
    id: str
    object: Literal["chat.completion.deleted"] = "chat.completion.deleted"
    deleted: bool = True


def recorded(
    http: Request, request: ChatRequest, generation: Generation, whole: Callable[[Answer], ChatCompletion]
) -> Generation:
    """The generation, whose answer is kept before its end is told."""

    async def keep(answer: Answer) -> None:
        answer.routes.append(generation.route())
        await _keep(http, request, whole(answer))

    return generation.with_events(_record(generation.events, keep))


async def _record(events: Events, keep: Callable[[Answer], Any]) -> AsyncGenerator[Any]:
    choices: dict[int, Choice] = {}
    warnings: list[str] = []
    try:
        async for event in events:
            if isinstance(event, Started):
                warnings += event.warnings
            elif isinstance(event, list):
                _add(event, choices, warnings)
            elif isinstance(event, Ended):
                ordered = [choice for _, choice in sorted(choices.items())]
                await keep(Answer(ordered, event.usage, event.timings, warnings, []))
            yield event
    finally:
        await events.aclose()


def _add(deltas: list[Delta], choices: dict[int, Choice], warnings: list[str]) -> None:
    for delta in deltas:
        choices.setdefault(delta.choice, Choice()).add(delta)
        warnings += delta.warnings


async def _keep(http: Request, request: ChatRequest, completion: ChatCompletion) -> None:
    archive, principal = runtime_of(http).archive, principal_of(http)
    body = msgspec.to_builtins(completion) | {
        "metadata": request.metadata or {},
        "temperature": request.temperature,
        "top_p": request.top_p,
        "seed": request.seed,
        "tools": msgspec.to_builtins(request.tools),
        "tool_choice": msgspec.to_builtins(request.tool_choice),
        "response_format": msgspec.to_builtins(request.response_format),
    }
    messages = []
    for index, message in enumerate(request.messages):
        said = {name: value for name, value in msgspec.to_builtins(message).items() if value is not None}
        if isinstance(message.content, list):
            said["content_parts"] = said["content"]
            said["content"] = "".join(part.text or "" for part in message.content)
        said.setdefault("content", None)
        id = f"{completion.id}-{index}"
        messages.append(KeptItem(id=id, body=_encode({"id": id, **said})))
    kept = archive.new(
        principal, KIND, completion.id, _encode(body), model=completion.model, metadata=request.metadata
    )
    await archive.keep(kept, messages)


async def list_chat_completions(http: Request) -> Response:
    wanted = {
        name: value
        for name, value in http.query_params.items()
        if name.startswith("metadata[") and name.endswith("]")
    }
    query = read_query(http, ListChatsQuery, but=tuple(wanted))
    page = Page(limit=query.limit, order=query.order, after=query.after or "")
    metadata = {name[len("metadata[") : -1]: value for name, value in list(wanted.items())[:16]}
    found, has_more = await runtime_of(http).archive.find_page(
        principal_of(http), KIND, page, model=query.model or "", metadata=metadata
    )
    return json_body(_listed([(kept.id, _shown(kept)) for kept in found], has_more))


async def get_chat_completion(http: Request) -> Response:
    return _answer(await runtime_of(http).archive.get(principal_of(http), KIND, _id(http)))


async def update_chat_completion(http: Request) -> Response:
    request = await read_request(http, UpdateChat)
    metadata = request.metadata or {}

    def change(kept: Kept) -> bytes:
        return _encode(msgspec.json.decode(kept.body) | {"metadata": metadata})

    return _answer(
        await runtime_of(http).archive.change(principal_of(http), KIND, _id(http), change, metadata=metadata)
    )


async def delete_chat_completion(http: Request) -> Response:
    await runtime_of(http).archive.remove(principal_of(http), KIND, _id(http))
    return json_body(DeletedChat(id=_id(http)))


async def list_chat_completion_messages(http: Request) -> Response:
    query = read_query(http, ListMessagesQuery)
    page = Page(limit=query.limit, order=query.order, after=query.after or "")
    found, has_more = await runtime_of(http).archive.items_page(principal_of(http), KIND, _id(http), page)
    return json_body(_listed([(item.id, msgspec.json.decode(item.body)) for item in found], has_more))


def _listed(entries: list[tuple[str, Any]], has_more: bool) -> StoredList:
    return StoredList(
        data=[shown for _, shown in entries],
        first_id=entries[0][0] if entries else None,
        last_id=entries[-1][0] if entries else None,
        has_more=has_more,
    )


def _answer(kept: Kept) -> Response:
    return Response(kept.body, media_type="application/json")


def _shown(kept: Kept) -> Any:
    return msgspec.json.decode(kept.body)


def _id(http: Request) -> str:
    id: str = http.path_params["completion_id"]
    return id
