"""Grammars that force tool calls: a family's call syntax around the parameters' JSON schemas.

Written in llguidance's variant of Lark: `%json {…}` is a rule, `<[id]>` a control token.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from appliance.records import GrammarConstraint, Tool

MAX_PARALLEL_CALLS = 16

TokenId = Callable[[str], int | None]


class CallGrammar:
    """`token_id` gives the id of a marker that is one token of the model's vocabulary, else None."""

    def __init__(self, tools: Sequence[Tool], token_id: TokenId) -> None:
        self._tools = tools
        self._token_id = token_id

    def marker(self, text: str) -> str:
        token = self._token_id(text)
        return quoted(text) if token is None else f"<[{token}]>"

    def build(
        self, syntax: Callable[[Tool, str], str], *, between: str | None, around: str = "{}"
    ) -> GrammarConstraint:
        """`syntax` writes one call of a tool around the name of the rule for its arguments.

        `between` stands between two calls, None where there may be only one; `around` stands around them all.
        """
        rules = []
        for index, tool in enumerate(self._tools):
            rules.append(f"call_{index}: {syntax(tool, f'arguments_{index}')}")
            rules.append(f"arguments_{index}: %json {json.dumps(_schema(tool))}")
        call = " | ".join(f"call_{index}" for index in range(len(self._tools)))
        more = "" if between is None else f" ({between} call){{0,{MAX_PARALLEL_CALLS - 1}}}"
        start = around.format(f"call{more}")
        return GrammarConstraint(
            text="\n".join([f"start: {start}", f"call: {call}", *rules, ""]), syntax="lark"
        )


def quoted(text: str) -> str:
    """A Lark literal."""
    return json.dumps(text, ensure_ascii=False)


def json_call(tool: Tool, arguments: str, key: str = "arguments") -> str:
    """A call as the JSON object that most families write."""
    head = json.dumps({"name": tool.name, key: 0})[: -len("0}")]
    return f"{quoted(head)} {arguments} {quoted('}')}"


def _schema(tool: Tool) -> dict[str, Any]:
    """The tool's schema, closed to members it does not describe, with the spacing models write themselves.

    A keyword that cannot be enforced is passed over where the tool is not strict, as OpenAI does.
    """
    schema = _closed(tool.parameters or {"properties": {}})
    guidance = {
        "whitespace_flexible": False,
        "item_separator": ", ",
        "key_separator": ": ",
        "lenient": not tool.strict,
    }
    return {"type": "object", **schema, "x-guidance": guidance}


COMBINATORS = frozenset(["$ref", "allOf", "anyOf", "oneOf", "if", "not", "patternProperties"])


def _closed(schema: Any) -> Any:
    """`schema` with no room for members that it does not describe, where that changes nothing else."""
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {
        key: {name: _closed(part) for name, part in value.items()}
        if key in ("properties", "$defs", "definitions") and isinstance(value, dict)
        else _closed(value)
        if key in ("items", "anyOf", "oneOf")
        else value
        for key, value in schema.items()
    }
    if isinstance(closed.get("properties"), dict) and not COMBINATORS & closed.keys():
        closed.setdefault("additionalProperties", False)
    return closed
