"""Streams as they are on the wire, held to the types that the SDKs declare and do not check themselves."""

from __future__ import annotations

import json
from typing import Any

from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

RESPONSE_EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
LAST = ("response.completed", "response.incomplete", "response.failed")


def named_events(raw: str) -> list[dict[str, Any]]:
    """The events of a stream whose every event has a name; fails unless the name is the event's type."""
    found = []
    for block in raw.removesuffix("\n\n").split("\n\n"):
        if block.startswith(": "):
            continue
        name, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        found.append(event)
    return found


def response_events(raw: str) -> list[dict[str, Any]]:
    """A response's events; fails unless each is as the SDK types it, and they come in order.

    An item is added empty and in progress, grows, and is done once, as the last event has it; the deltas of a
    part are its text.
    """
    events = named_events(raw)
    for event in events:
        RESPONSE_EVENT.validate_python(event, strict=True)
    first = events[0]["sequence_number"]
    assert [event["sequence_number"] for event in events] == list(range(first, first + len(events)))
    assert [event["type"] for event in events if event["type"] in LAST] == [events[-1]["type"]]
    items = Items()
    for event in events:
        items.take(event)
    assert items.done == events[-1]["response"]["output"][: len(items.done)]
    return events


class Items:
    """What a client knows of a response's items while it reads the events."""

    def __init__(self) -> None:
        self._open: dict[int, dict[str, Any]] = {}
        self._texts: dict[tuple[int, int], str] = {}
        self._done: dict[int, dict[str, Any]] = {}

    @property
    def done(self) -> list[dict[str, Any]]:
        return [self._done[index] for index in sorted(self._done)]

    def take(self, event: dict[str, Any]) -> None:
        kind, index = event["type"].removeprefix("response."), event.get("output_index")
        if index is None:
            return
        if kind == "output_item.added":
            assert index == len(self._open) + len(self._done)
            assert event["item"].get("status", "in_progress") in ("in_progress", "calling", "completed")
            assert not event["item"].get("content")
            assert not event["item"].get("arguments") or event["item"]["type"] == "mcp_call"
            self._open[index] = event["item"]
            return
        item = self._open[index]
        assert event.get("item_id", item["id"]) == item["id"]
        if kind == "output_item.done":
            self._done[index] = event["item"]
            del self._open[index]
        elif kind == "content_part.added":
            assert event["part"]["text"] == ""
            self._texts[index, event["content_index"]] = ""
        elif kind.endswith("text.delta"):
            self._texts[index, event["content_index"]] += event["delta"]
        elif kind.endswith("text.done"):
            assert self._texts[index, event["content_index"]] == event["text"]
        elif kind == "content_part.done":
            assert self._texts.pop((index, event["content_index"])) == event["part"]["text"]
        elif kind.endswith("arguments.delta"):
            self._texts[index, -1] = self._texts.get((index, -1), "") + event["delta"]
        elif kind.endswith("arguments.done"):
            assert self._texts.pop((index, -1), "") == event["arguments"]
