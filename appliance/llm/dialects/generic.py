"""Models whose chat template has no tools, or has them in a way not known here: tools described in words.

The system message says what there is and how to call it; calls and results become plain turns.
"""

from __future__ import annotations

import json

from appliance.llm.dialects.dialect import Definitions, Turn, offered, parsed
from appliance.llm.dialects.hermes import CLOSER, OPENER, Hermes
from appliance.llm.dialects.instruction import describe, example_arguments, instructed
from appliance.records import ChatPrompt, Message

NO_TOOLS = "this model's chat template has no tools; they were described to it in the system message instead"
UNKNOWN_TOOLS = (
    "this model's chat template writes tool calls in a way that Hearth does not know; the tools were "
    "described in the system message instead"
)

RESULTS = "Results come back between <tool_response> and </tool_response>."


class Generic(Hermes):
    name = "generic"

    def __init__(self, template: str, *, has_tools: bool) -> None:
        super().__init__(template)
        self.warning = UNKNOWN_TOOLS if has_tools else NO_TOOLS

    def conversation(self, prompt: ChatPrompt) -> tuple[list[Turn], Definitions | None]:
        turns = _merged([_plain(message) for message in prompt.messages])
        tools = offered(prompt)
        if not tools:
            return turns, None
        example = _call_block(tools[0].name, example_arguments(tools[0]))
        return instructed(turns, f"{describe(tools, example)}\n{RESULTS}", self._template), None


def _plain(message: Message) -> Turn:
    """A turn in words that any template can write."""
    if message.role == "tool":
        return {"role": "user", "content": f"<tool_response>\n{message.content}\n</tool_response>"}
    calls = [_call_block(call.name, call.arguments) for call in message.tool_calls]
    turn: Turn = {"role": message.role, "content": "\n".join([*filter(None, [message.content]), *calls])}
    if message.name is not None:
        turn["name"] = message.name
    return turn


def _call_block(name: str, arguments: str) -> str:
    call = json.dumps({"name": name, "arguments": parsed(arguments)}, ensure_ascii=False)
    return f"{OPENER}\n{call}\n{CLOSER}"


def _merged(turns: list[Turn]) -> list[Turn]:
    """User turns in a row that begin with tool results as one: many templates want turns to alternate."""
    merged: list[Turn] = []
    for turn in turns:
        before = merged[-1] if merged else None
        if before and before["role"] == turn["role"] == "user" and "<tool_response>" in before["content"]:
            merged[-1] = {**before, "content": f"{before['content']}\n{turn['content']}"}
        else:
            merged.append(turn)
    return merged
