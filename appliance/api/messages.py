"""The messages of a chat request as records: the text of their parts, their calls, and results of calls."""

from __future__ import annotations

from collections.abc import Sequence

from appliance.api.schemas import ChatMessage
from appliance.api.tools import call_of
from appliance.errors import InvalidValue, MissingParameter
from appliance.records import Image, Message, ToolCall


def messages_of(messages: Sequence[ChatMessage]) -> tuple[Message, ...]:
    """Raises InvalidValue and MissingParameter for calls and results where there can be none."""
    legacy_ids: dict[str, str] = {}  # of calls in the old form, which has no ids, by the function's name
    return tuple(
        _message(message, f"messages[{index}]", legacy_ids) for index, message in enumerate(messages)
    )


def _message(message: ChatMessage, path: str, legacy_ids: dict[str, str]) -> Message:
    _check_role(message, path)
    text, images = _content(message)
    role = {"developer": "system", "function": "tool"}.get(message.role, message.role)
    calls = [call_of(call, f"{path}.tool_calls[{n}]") for n, call in enumerate(message.tool_calls or ())]
    if message.function_call is not None:
        id = f"call_{len(legacy_ids)}_{message.function_call.name}"
        legacy_ids[message.function_call.name] = id
        calls.append(
            ToolCall(id=id, name=message.function_call.name, arguments=message.function_call.arguments)
        )
    call_id = message.tool_call_id
    if message.role == "function":
        call_id = legacy_ids.get(message.name or "", message.name)
    return Message(
        role=role,
        content=text,
        name=message.name,
        tool_calls=tuple(calls),
        tool_call_id=call_id,
        reasoning=message.reasoning_content or "",
        images=images,
    )


def _content(message: ChatMessage) -> tuple[str, tuple[Image, ...]]:
    if message.content is None or isinstance(message.content, str):
        return message.content or "", ()
    text, images = "", []
    for part in message.content:
        text += part.text or ""
        if part.image_url is not None:
            images.append(Image(url=part.image_url.url, detail=part.image_url.detail or "", after=len(text)))
    return text, tuple(images)


def _check_role(message: ChatMessage, path: str) -> None:
    if message.role == "tool" and message.tool_call_id is None:
        raise MissingParameter(
            "a tool's result needs the id of the call that it answers", param=f"{path}.tool_call_id"
        )
    if message.role == "function" and message.name is None:
        raise MissingParameter("a function's result needs the function's name", param=f"{path}.name")
    if message.role != "tool" and message.tool_call_id is not None:
        raise InvalidValue("only a message of the role tool answers a call", param=f"{path}.tool_call_id")
    for name in ("tool_calls", "function_call", "reasoning_content"):
        if message.role != "assistant" and getattr(message, name):
            raise InvalidValue(f"only a message of the role assistant has {name}", param=f"{path}.{name}")
