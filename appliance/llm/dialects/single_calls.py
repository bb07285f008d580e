"""Conversations for templates that write one call a turn, whatever the model once did at a time."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from appliance.records import Message


def one_call_a_turn(messages: Sequence[Message]) -> list[Message]:
    """Messages with several calls taken apart, each call followed by its result."""
    results = {message.tool_call_id: message for message in messages if message.role == "tool"}
    apart: list[Message] = []
    moved: set[str | None] = set()
    for message in messages:
        if len(message.tool_calls) < 2:
            if message.role != "tool" or message.tool_call_id not in moved:
                apart.append(message)
            continue
        for call in message.tool_calls:
            apart.append(replace(message, tool_calls=(call,)))
            message = replace(message, content="", reasoning="")  # said once
            if call.id in results:
                apart.append(results[call.id])
                moved.add(call.id)
    return apart
