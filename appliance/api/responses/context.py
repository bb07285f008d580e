"""What came before a request: items of the responses it follows, of its conversation, and those it names."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from starlette.requests import Request

from appliance.api.context import principal_of, runtime_of
from appliance.api.responses.items import kind_of, restored
from appliance.api.responses.schemas import CompactResponse, ContextFields, ConversationReference, Item
from appliance.errors import InvalidRequest, InvalidValue, MissingParameter, NotFound
from appliance.store.objects import Kept

RESPONSE, CONVERSATION = "response", "conversation"
MOST_RESPONSES = 512  # that follow each other
UNFINISHED = ("queued", "in_progress")


class _Follows(msgspec.Struct):
    previous_response_id: str | None = None


def conversation_id(request: ContextFields) -> str | None:
    named = request.conversation
    return named.id if isinstance(named, ConversationReference) else named


async def earlier_items(http: Request, request: ContextFields | CompactResponse) -> list[Item]:
    """Raises NotFound for a conversation that is not there, InvalidRequest for a response that is not."""
    if isinstance(request, ContextFields) and (id := conversation_id(request)) is not None:
        held = await runtime_of(http).archive.items(principal_of(http), CONVERSATION, id)
        return since_compaction([restored(item.body) for item in held])
    return await _of_responses(http, request.previous_response_id)


async def _of_responses(http: Request, id: str | None) -> list[Item]:
    chain: list[list[Item]] = []
    while id is not None and len(chain) < MOST_RESPONSES:
        kept = await _previous(http, id)
        held = await runtime_of(http).archive.items(principal_of(http), RESPONSE, id)
        chain.append([restored(item.body) for item in held])
        if any(kind_of(item) == "compaction" for item in chain[-1]):
            break
        id = msgspec.json.decode(kept.body, type=_Follows).previous_response_id
    return since_compaction([item for items in reversed(chain) for item in items])


async def _previous(http: Request, id: str) -> Kept:
    try:
        kept = await runtime_of(http).archive.get(principal_of(http), RESPONSE, id)
    except NotFound as error:
        raise InvalidRequest(
            f"there is no response {id!r} to go on from",
            param="previous_response_id",
            code="previous_response_not_found",
        ) from error
    if kept.state in UNFINISHED:
        raise InvalidValue(f"the response {id!r} is not finished yet", param="previous_response_id")
    return kept


def since_compaction(items: Sequence[Item]) -> list[Item]:
    """What a compaction has summed up is not said again."""
    places = [place for place, item in enumerate(items) if kind_of(item) == "compaction"]
    return list(items[places[-1] :]) if places else list(items)


async def resolved(http: Request, items: Sequence[Item]) -> list[Item]:
    """The items, with those in place of references that they refer to. Raises NotFound."""
    found = []
    for index, item in enumerate(items):
        if kind_of(item) == "item_reference":
            if item.id is None:
                raise MissingParameter(
                    f"the parameter 'input[{index}].id' is required", param=f"input[{index}].id"
                )
            held = await runtime_of(http).archive.item(principal_of(http), item.id)
            item = restored(held.body)
        found.append(item)
    return found
