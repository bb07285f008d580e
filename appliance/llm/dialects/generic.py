"""Models whose chat template has no tools, or has them in a way not known here: tools described in words.

The system message says what there is and how to call it; calls and results become plain turns.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from appliance.llm.dialects.dialect import Definitions, Turn, definitions, offered, parsed
from appliance.llm.dialects.hermes import CLOSER, OPENER, Hermes
from appliance.records import ChatPrompt, Message, Tool

NO_TOOLS = "this model's chat template has no tools; they were described to it in the system message instead"
UNKNOWN_TOOLS = (
    "this model's chat template writes tool calls in a way that Hearth does not know; the tools were "
    "described in the system message instead"
)
REFUSES_SYSTEM = "System role not supported"

INSTRUCTION = """# Tools

You can call these functions:
{tools}

To call one, write a JSON object with its name and its arguments between {opener} and {closer}, and nothing \
else, for example:
{opener}
{example}
{closer}
The result comes back between <tool_response> and </tool_response>. Call a function only when the request \
needs it; answer in words otherwise."""


class Generic(Hermes):
    name = "generic"

    def __init__(self, template: str, *, has_tools: bool) -> None:
        super().__init__(template)
        self.warning = UNKNOWN_TOOLS if has_tools else NO_TOOLS
        self._has_system_turn = REFUSES_SYSTEM not in template

    def conversation(self, prompt: ChatPrompt) -> tuple[list[Turn], Definitions | None]:
        turns = _merged([_plain(message) for message in prompt.messages])
        tools = offered(prompt)
        return (self._instructed(turns, tools) if tools else turns), None

    def _instructed(self, turns: list[Turn], tools: Sequence[Tool]) -> list[Turn]:
        text = _instruction(tools)
        role = "system" if self._has_system_turn else "user"
        first = turns[0] if turns else None
        if first is not None and first["role"] == role:
            return [{**first, "content": f"{first['content']}\n\n{text}".strip()}, *turns[1:]]
        return [{"role": role, "content": text}, *turns]


def _instruction(tools: Sequence[Tool]) -> str:
    lines = [json.dumps(entry["function"], ensure_ascii=False) for entry in definitions(tools)]
    example = _example(tools[0])
    return INSTRUCTION.format(tools="\n".join(lines), opener=OPENER, closer=CLOSER, example=example)


def _example(tool: Tool) -> str:
    """A call of `tool`, with a placeholder for each argument that it needs."""
    needed = tool.parameters.get("required")
    names = [name for name in needed if isinstance(name, str)] if isinstance(needed, list) else []
    return json.dumps({"name": tool.name, "arguments": dict.fromkeys(names, "...")}, ensure_ascii=False)


def _plain(message: Message) -> Turn:
    """A turn in words that any template can write."""
    if message.role == "tool":
        return {"role": "user", "content": f"<tool_response>\n{message.content}\n</tool_response>"}
    calls = [f"{OPENER}\n{_call_text(call.name, call.arguments)}\n{CLOSER}" for call in message.tool_calls]
    turn: Turn = {"role": message.role, "content": "\n".join([*filter(None, [message.content]), *calls])}
    if message.name is not None:
        turn["name"] = message.name
    return turn


def _call_text(name: str, arguments: str) -> str:
    return json.dumps({"name": name, "arguments": parsed(arguments)}, ensure_ascii=False)


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
