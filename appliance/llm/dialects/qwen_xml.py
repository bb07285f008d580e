"""Qwen3-Coder and Qwen3.5: `<function=NAME><parameter=KEY>` value `</parameter></function>` in `<tool_call>`.

A value stands there as it is, without quotes; its type is the schema's. A forced call is written as Hermes
has it: values that end at a tag could be neither bounded nor closed early.
"""

from __future__ import annotations

import json
from typing import Any

from appliance.llm.dialects.calls import Call, read_word
from appliance.llm.dialects.hermes import CLOSER, Hermes, read_closer
from appliance.llm.dialects.json_reader import LITERALS, Malformed
from appliance.llm.dialects.tape import Reading, Tape

FUNCTION, PARAMETER = "<function=", "<parameter="
FUNCTION_END, PARAMETER_END = "</function>", "</parameter>"


class QwenXml(Hermes):
    name = "qwen-xml"

    def read_tagged(self, tape: Tape, call: Call) -> Reading[None]:
        yield from tape.skip_space()
        if (yield from tape.peek()) == "{":
            yield from super().read_tagged(tape, call)
            return
        if not (yield from tape.accept(FUNCTION)):
            raise Malformed("names no function")
        call.set_name((yield from read_word(tape, (">",))))
        yield from tape.accept(">")
        separator = "{"
        yield from tape.skip_space()
        while (yield from tape.accept(PARAMETER)):
            key = yield from read_word(tape, (">",))
            yield from tape.accept(">")
            call.add(separator + json.dumps(key, ensure_ascii=False))
            call.add(": ")
            yield from _read_parameter(tape, call, key)
            separator = ", "
            yield from tape.skip_space()
        call.add("{}" if separator == "{" else "}")
        if not (yield from tape.accept(FUNCTION_END)) and (tape.held or not tape.whole):
            raise Malformed(f"is not closed with {FUNCTION_END}")
        yield from read_closer(tape, CLOSER)


def _read_parameter(tape: Tape, call: Call, key: str) -> Reading[None]:
    """One value, without the line breaks around it; a text is passed on as it grows."""
    if (yield from tape.peek()) == "\n":
        tape.take(1)
    if call.takes_text(key):
        call.add('"')
        ended = yield from tape.until((PARAMETER_END,), lambda text: call.add(_escaped(text)))
        call.add('"')
    else:
        parts: list[str] = []
        ended = yield from tape.until((PARAMETER_END,), parts.append)
        call.add(_value("".join(parts).strip()))
    if ended is None:
        raise Malformed(f"is not closed with {PARAMETER_END}")
    tape.take(len(PARAMETER_END))


def _escaped(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _value(text: str) -> str:
    """`text` as JSON where it can be read as such, else as a string."""
    try:
        value: Any = json.loads(LITERALS.get(text, text))
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (ValueError, RecursionError):
        return json.dumps(text, ensure_ascii=False)
