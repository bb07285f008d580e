"""Items as clients send, keep and get them: one normal form, with ids, which the archive holds too."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from appliance.api.responses.replies import new_id
from appliance.api.responses.schemas import Item, Part
from appliance.errors import InternalError, InvalidValue
from appliance.store.objects import KeptItem

PREFIXES = {
    "message": "msg",
    "function_call": "fc",
    "function_call_output": "fco",
    "reasoning": "rs",
    "file_search_call": "fs",
    "compaction": "cmp",
    "mcp_list_tools": "mcpl",
    "mcp_call": "mcp",
    "mcp_approval_request": "mcpr",
    "mcp_approval_response": "mcpa",
}
WITHOUT_STATUS = ("compaction", "mcp_list_tools", "mcp_approval_request", "mcp_approval_response")
WRAPPING = "hearth1."  # of texts that clients hold for us and send back

_encode = msgspec.json.Encoder().encode


def input_items(value: str | Sequence[Item] | None) -> list[Item]:
    """`input` as items: a text is a message of the user's."""
    if value is None:
        return []
    return [Item(role="user", content=value)] if isinstance(value, str) else list(value)


def kind_of(item: Item) -> str:
    """The item's type; where it has none, it is a message or a reference to an item."""
    if item.type is not None:
        return item.type
    return "message" if item.role is not None else "item_reference"


def normal(item: Item) -> dict[str, Any]:
    """The item as it is kept and given back: with an id, a type, a status, and its content in parts."""
    kind = kind_of(item)
    shown: dict[str, Any] = msgspec.to_builtins(item)
    if kind == "message":
        said = "output_text" if item.role == "assistant" else "input_text"
        if isinstance(item.content, str):
            shown["content"] = [_part(said, item.content)]
        shown |= {"type": "message"}
    if kind not in WITHOUT_STATUS:
        shown.setdefault("status", "completed")
    if kind == "reasoning":
        shown.setdefault("summary", [])
    shown["id"] = item.id or new_id(PREFIXES.get(kind, "item"))
    return shown


def _part(kind: str, text: str) -> dict[str, Any]:
    part: dict[str, Any] = {"type": kind, "text": text}
    return part | ({"annotations": []} if kind == "output_text" else {})


def kept(items: Iterable[dict[str, Any]], side: str) -> list[KeptItem]:
    """`side`: "in" for what was asked, "out" for what was answered."""
    return [KeptItem(id=item["id"], side=side, body=_encode(item)) for item in items]


def restored(body: bytes) -> Item:
    """A kept item as it was sent. Raises InternalError when it is none."""
    try:
        return msgspec.json.decode(body, type=Item)
    except msgspec.DecodeError as error:
        raise InternalError(f"a kept item cannot be read: {error}") from error


def text_of(content: str | Sequence[Part] | None) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(part.text or part.refusal or "" for part in content)


def wrapped(text: str) -> str:
    """`text` as `encrypted_content`: opaque, not secret; the client has read it anyway."""
    return WRAPPING + base64.b64encode(text.encode("utf-8", "surrogatepass")).decode()


def unwrapped(value: str, path: str) -> str:
    """Raises InvalidValue for what this server did not write."""
    try:
        if not value.startswith(WRAPPING):
            raise ValueError
        return base64.b64decode(value.removeprefix(WRAPPING), validate=True).decode("utf-8", "strict")
    except (ValueError, binascii.Error) as error:
        raise InvalidValue(f"{path} was not written by this server", param=path) from error


def shown(item: dict[str, Any], include: Sequence[str]) -> dict[str, Any]:
    """An item without what is only given when it is asked for."""
    if item["type"] == "file_search_call" and "file_search_call.results" not in include:
        return item | {"results": None}
    if item["type"] == "reasoning" and "reasoning.encrypted_content" not in include:
        return {name: value for name, value in item.items() if name != "encrypted_content"}
    return item
