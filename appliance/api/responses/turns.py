"""Items to the messages of a prompt: what was said, called, answered and thought, in turns.

What a model did in one go (thought, spoke, called) is one message, as chat templates want it.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from appliance.api.responses import rules
from appliance.api.responses.items import kind_of, text_of, unwrapped
from appliance.api.responses.schemas import Item, Part
from appliance.errors import InvalidValue, MissingParameter, UnsupportedParameter
from appliance.records import Message, ToolCall

TEXT_PARTS = ("input_text", "output_text", "text", "refusal", "summary_text", "reasoning_text")
SUMMARY_HEAD = "Summary of the conversation so far:\n"
# A search's passages were in the prompt of that answer only; a call that was approved is an item of its own.
SILENT = ("file_search_call", "mcp_list_tools", "mcp_approval_request")
NOT_APPROVED = "The user does not allow this call."


def turns_of(items: Sequence[Item], path: str = "input", first: int = 0) -> list[Message]:
    """`first`: which item is the request's own first one, and so `path[0]`.

    Raises UnsupportedParameter for an item that is not served, MissingParameter and InvalidValue.
    """
    turns: list[Message] = []
    names: dict[str, str] = {}  # of calls, by their ids
    requests = {item.id: item for item in items if kind_of(item) == "mcp_approval_request"}
    for index, item in enumerate(items):
        where = f"{path}[{index - first}]"
        kind = kind_of(item)
        rules.check_item(item, where)
        if kind == "message":
            _say(turns, item, where)
        elif kind == "function_call":
            call = ToolCall(
                id=_required(item.call_id, f"{where}.call_id"),
                name=_required(item.name, f"{where}.name"),
                arguments=item.arguments or "{}",
            )
            names[call.id] = call.name
            _extend(turns, calls=(call,))
        elif kind == "function_call_output":
            id = _required(item.call_id, f"{where}.call_id")
            if id not in names:
                raise InvalidValue(f"{where} answers the call {id!r}, which is not there", param=where)
            output = _text(item.output, f"{where}.output")
            turns.append(Message(role="tool", content=output, tool_call_id=id, name=names[id]))
        elif kind == "reasoning":
            _extend(turns, reasoning=_reasoning(item, where))
        elif kind == "mcp_call":
            _answered(turns, item, _outcome(item), where)
        elif kind == "mcp_approval_response":
            request = requests.get(item.approval_request_id)
            if item.approve is False and request is not None:
                reason = f" {item.reason}" if item.reason else ""
                _answered(turns, request, NOT_APPROVED + reason, where)
        elif kind == "compaction":
            summary = unwrapped(item.encrypted_content or "", f"{where}.encrypted_content")
            turns.append(Message(role="user", content=SUMMARY_HEAD + summary))
        elif kind not in SILENT:
            raise UnsupportedParameter(f"items of type {kind!r} are not served here", param=f"{where}.type")
    return turns


def check_items(items: Sequence[Item], path: str) -> None:
    """What can be kept: everything that `turns_of` reads, and answers to calls made elsewhere."""
    for index, item in enumerate(items):
        if kind_of(item) != "function_call_output":
            turns_of([item], path, -index)


def _say(turns: list[Message], item: Item, where: str) -> None:
    if item.role is None:
        raise MissingParameter(f"the parameter '{where}.role' is required", param=f"{where}.role")
    if item.content is None:
        raise MissingParameter(f"the parameter '{where}.content' is required", param=f"{where}.content")
    text = _text(item.content, f"{where}.content")
    if item.role == "assistant":
        _extend(turns, text=text)
    else:
        role = "system" if item.role == "developer" else item.role
        turns.append(Message(role=role, content=text))


def _extend(
    turns: list[Message], *, text: str = "", reasoning: str = "", calls: tuple[ToolCall, ...] = ()
) -> None:
    """Add to the model's last turn what belongs to it; begin another where it does not."""
    last = turns[-1] if turns and turns[-1].role == "assistant" else None
    begins_anew = last is None or (text and (last.content or last.tool_calls)) or (reasoning and last.content)
    if last is None or begins_anew:
        turns.append(Message(role="assistant", content=text, reasoning=reasoning, tool_calls=calls))
        return
    turns[-1] = msgspec.structs.replace(
        last,
        content=last.content + text,
        reasoning=last.reasoning + reasoning,
        tool_calls=last.tool_calls + calls,
    )


def _answered(turns: list[Message], call: Item, answer: str, where: str) -> None:
    """A call that this server ran, or did not run, and what came of it."""
    made = ToolCall(
        id=_required(call.id, f"{where}.id"),
        name=_required(call.name, f"{where}.name"),
        arguments=call.arguments or "{}",
    )
    _extend(turns, calls=(made,))
    turns.append(Message(role="tool", content=answer, tool_call_id=made.id, name=made.name))


def _outcome(call: Item) -> str:
    if call.error is None:
        return text_of(call.output)
    error = call.error if isinstance(call.error, dict) else {}
    content = error.get("content") or [{"text": error.get("message")}]
    return "\n".join(f"Error: {part.get('text')}" for part in content if isinstance(part, dict))


def _reasoning(item: Item, where: str) -> str:
    if item.content:
        return _text(item.content, f"{where}.content")
    if item.encrypted_content:
        return unwrapped(item.encrypted_content, f"{where}.encrypted_content")
    return _text(item.summary, f"{where}.summary")


def _text(content: str | Sequence[Part] | None, path: str) -> str:
    if content is None:
        raise MissingParameter(f"the parameter {path!r} is required", param=path)
    if not isinstance(content, str):
        for index, part in enumerate(content):
            where = f"{path}[{index}]"
            if part.type not in TEXT_PARTS:
                raise UnsupportedParameter(
                    f"content of type {part.type!r} is not served: the local models read text only",
                    param=f"{where}.type",
                )
            rules.check_part(part, where)
            if part.text is None and part.refusal is None:
                raise MissingParameter(f"the parameter '{where}.text' is required", param=f"{where}.text")
    return text_of(content)


def _required(value: str | None, path: str) -> str:
    if value is None:
        raise MissingParameter(f"the parameter {path!r} is required", param=path)
    return value
