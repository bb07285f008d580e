"""The calls of one answer while they are being written: numbered, named, checked, handed on in pieces."""

from __future__ import annotations

import json
import secrets
import string
from collections.abc import Callable, Mapping
from typing import Any

from appliance.llm.dialects.conform import complaint
from appliance.llm.dialects.json_reader import (
    Malformed,
    next_key,
    read_members,
    read_object,
    read_text,
    read_value,
)
from appliance.llm.dialects.tape import Reading, Tape
from appliance.records import Tool, ToolCallDelta

NAME_KEYS = ("name", "tool_name", "tool", "function_name")
ARGUMENT_KEYS = ("arguments", "parameters", "args", "input")
CALL_KEYS = frozenset([*NAME_KEYS, *ARGUMENT_KEYS, "function", "type", "id", "tool_call", "function_call"])
MAX_WORD_CHARS = 256
ALPHANUMERIC = string.ascii_letters + string.digits


def new_call_id() -> str:
    return "call_" + secrets.token_hex(12)


def new_short_call_id() -> str:
    """Nine letters and digits: the only ids that Mistral's templates take."""
    return "".join(secrets.choice(ALPHANUMERIC) for _ in range(9))


class Calls:
    """`tools`: those that may be called, by name."""

    def __init__(self, tools: Mapping[str, Tool], new_id: Callable[[], str] = new_call_id) -> None:
        self.tools = tools
        self.count = 0
        self.finished = 0
        self._new_id = new_id
        self._deltas: list[ToolCallDelta] = []

    def begin(self) -> Call:
        return Call(self)

    def collect(self) -> tuple[ToolCallDelta, ...]:
        """What has become certain since the last time."""
        deltas, self._deltas = tuple(self._deltas), []
        return deltas

    def open(self, name: str) -> int:
        """The index of a new call that is now certain."""
        index = self.count
        self.count += 1
        self._deltas.append(ToolCallDelta(index=index, id=self._new_id(), name=name))
        return index

    def add(self, index: int, arguments: str) -> None:
        self._deltas.append(ToolCallDelta(index=index, arguments=arguments))


class Call:
    """One call. It becomes certain when its tool is known and its arguments look like JSON.

    The arguments of a strict tool are held back until they are known to fit its schema, and those of any
    tool when `is_doubtful`: then nothing is certain before `close`.
    """

    def __init__(self, calls: Calls, *, is_doubtful: bool = False) -> None:
        self._calls = calls
        self._is_doubtful = is_doubtful
        self._tool: Tool | None = None
        self._index: int | None = None
        self._arguments = ""
        self._looks_right = False

    @property
    def is_certain(self) -> bool:
        return self._index is not None

    @property
    def has_arguments(self) -> bool:
        return self.is_certain or bool(self._arguments)

    def is_like(self, other: Call) -> bool:
        """Whether it calls the same with the same; neither may be certain yet."""
        return self._tool == other._tool and _parsed(self._arguments) == _parsed(other._arguments)

    @property
    def name(self) -> str:
        return self._tool.name if self._tool else ""

    def takes_text(self, parameter: str) -> bool:
        """Whether the tool's schema says that `parameter` is a string, or nothing about it."""
        members = self._tool.parameters.get("properties") if self._tool else None
        schema = members.get(parameter) if isinstance(members, dict) else None
        return not isinstance(schema, dict) or schema.get("type") == "string"

    def set_name(self, name: str) -> None:
        """Raises Malformed when there is no such tool."""
        if self._tool is not None and self._tool.name != name:
            raise Malformed("names two tools")
        self._tool = self._calls.tools.get(name)
        if self._tool is None:
            raise Malformed(f"names no tool that was given: {name[:80]!r}")
        self._pass_on()

    def add(self, text: str) -> None:
        """The next piece of the arguments, valid JSON so far."""
        self._arguments += text
        self._looks_right = self._looks_right or text in (": ", "}")
        self._pass_on()

    def close(self) -> None:
        """The call is over. Raises Malformed when it is none."""
        self.check()
        self._open()
        self._calls.finished += 1

    def check(self) -> None:
        if self._tool is None:
            raise Malformed("names no tool")
        self._arguments = self._arguments or ("" if self.is_certain else "{}")
        if (self._tool.strict or self._is_doubtful) and not self.is_certain:
            wrong = complaint(self._tool.parameters, _parsed(self._arguments))
            if wrong:
                raise Malformed(f"does not fit the schema of {self._tool.name}: {wrong}")

    def _pass_on(self) -> None:
        if self._tool is not None and self._looks_right and not (self._tool.strict or self._is_doubtful):
            self._open()

    def _open(self) -> None:
        assert self._tool is not None
        if self._index is None:
            self._index = self._calls.open(self._tool.name)
        if self._arguments:
            self._calls.add(self._index, self._arguments)
            self._arguments = ""


def read_call(tape: Tape, call: Call) -> Reading[None]:
    """A call as a JSON object, `{"name": …, "arguments": {…}}` or one of its usual variants.

    Raises Malformed at the first thing that no call would have.
    """
    if (yield from tape.peek()) != "{":
        raise Malformed("is not a JSON object")
    members = read_members(tape)
    while (key := (yield from next_key(members))) is not None:
        if key not in CALL_KEYS:
            raise Malformed(f"has the member {key[:80]!r}, which no call has")
        yield from tape.skip_space()
        first = yield from tape.peek()
        if key in ARGUMENT_KEYS:
            yield from read_arguments(tape, call)
        elif first == "{" and key in ("function", "tool_call", "function_call"):
            yield from read_call(tape, call)
        elif first == '"' and (key in NAME_KEYS or key == "function"):
            call.set_name((yield from read_text(tape)))
        else:
            yield from read_value(tape, _ignore)


def read_arguments(tape: Tape, call: Call) -> Reading[None]:
    """A call's arguments: an object, an object's JSON text in a string, or null for none."""
    first = yield from tape.peek()
    if call.has_arguments:
        raise Malformed("has arguments twice")
    if first == "{":
        yield from read_object(tape, call.add)
    elif first == '"':
        call.add(json.dumps(_parsed((yield from read_text(tape)) or "{}"), ensure_ascii=False))
    elif not (yield from tape.accept("null")):
        raise Malformed("has arguments that are not an object")


def read_word(tape: Tape, stops: tuple[str, ...]) -> Reading[str]:
    """The text up to the first of `stops`, which then comes next. Raises Malformed where that is far off."""
    while True:
        found = min((at for stop in stops if (at := tape.held.find(stop)) >= 0), default=None)
        if found is not None and found <= MAX_WORD_CHARS:
            return tape.take(found).strip()
        if len(tape.held) > MAX_WORD_CHARS or not (yield from tape.more()):
            raise Malformed("has no name")


def _parsed(text: str) -> dict[str, Any]:
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise Malformed("has arguments that are not an object")
    return value


def _ignore(_: str) -> None:
    pass
