"""Tools described in words, for chat templates that have no place for them."""

from __future__ import annotations

import json
from collections.abc import Sequence

from appliance.llm.dialects.dialect import Turn, definitions
from appliance.records import Tool

REFUSES_SYSTEM = "System role not supported"  # what templates without one say

TEXT = """# Tools

You can call these functions:
{tools}

To call one, write its call and nothing else, for example:
{example}
Call a function only when the request needs it; answer in words otherwise."""


def describe(tools: Sequence[Tool], example: str) -> str:
    """What a model is told of its tools. `example`: a call as it is to write them."""
    lines = [json.dumps(entry["function"], ensure_ascii=False) for entry in definitions(tools)]
    return TEXT.format(tools="\n".join(lines), example=example)


def example_arguments(tool: Tool) -> str:
    """Arguments for an example, with a placeholder for each that the tool needs."""
    needed = tool.parameters.get("required")
    names = [name for name in needed if isinstance(name, str)] if isinstance(needed, list) else []
    return json.dumps(dict.fromkeys(names, "..."), ensure_ascii=False)


def instructed(turns: list[Turn], text: str, template: str) -> list[Turn]:
    """The turns with `text` in the system message, or in the user's first where there can be none."""
    system = turns[0] if turns and turns[0]["role"] == "system" else None
    rest = turns if system is None else turns[1:]
    if system is not None:
        text = f"{system['content']}\n\n{text}".strip()
    if REFUSES_SYSTEM not in template:
        return [{**(system or {"role": "system"}), "content": text}, *rest]
    if rest and rest[0]["role"] == "user":
        return [{**rest[0], "content": f"{text}\n\n{rest[0]['content']}"}, *rest[1:]]
    return [{"role": "user", "content": text}, *rest]
