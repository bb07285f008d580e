"""Mistral: `[TOOL_CALLS]` before a JSON list of calls, or (since 2025) before each name, `[ARGS]`, object."""

from __future__ import annotations

import hashlib
from typing import ClassVar

from appliance.llm.dialects.answer import Answer, read_section
from appliance.llm.dialects.calls import Call, new_short_call_id, read_arguments, read_call, read_word
from appliance.llm.dialects.dialect import Dialect
from appliance.llm.dialects.foreign import read_text
from appliance.llm.dialects.lark import CallGrammar, json_call, quoted
from appliance.llm.dialects.tape import Reading, Tape
from appliance.records import GrammarConstraint, Tool

OPENER, ARGUMENTS, CALL_ID = "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"
ID_CHARS = 9


class Mistral(Dialect):
    name = "mistral"
    markers: ClassVar[tuple[str, ...]] = (OPENER,)
    quiet_tokens: ClassVar[tuple[str, ...]] = (ARGUMENTS, CALL_ID)

    def new_id(self) -> str:
        return new_short_call_id()

    def known_id(self, id: str) -> str:
        """An id of nine letters and digits; the same one for the same `id`."""
        if len(id) == ID_CHARS and id.isascii() and id.isalnum():
            return id
        return hashlib.sha256(id.encode("utf-8", errors="replace")).hexdigest()[:ID_CHARS]

    def read_answer(self, answer: Answer) -> Reading[None]:
        tape = answer.tape
        markers = self.markers if answer.calls.tools else ()
        while (yield from read_text(answer, markers)) is not None:
            reader = _Reader()
            goes_on = yield from read_section(answer, OPENER, reader.read_first)
            while goes_on and reader.is_in_list:
                tape.space = yield from tape.skip_space()
                if (yield from tape.peek()) != ",":
                    yield from tape.accept("]")
                    break
                goes_on = yield from read_section(answer, ",", reader.read_next)
            if goes_on:
                yield from tape.skip_space()

    def call_grammar(self, grammar: CallGrammar, *, parallel: bool) -> GrammarConstraint:
        opener = grammar.marker(OPENER)
        if ARGUMENTS not in self._template:
            between = quoted(", ") if parallel else None
            around = f"{opener} {quoted('[')} {{}} {quoted(']')}"
            return grammar.build(json_call, between=between, around=around)

        def syntax(tool: Tool, arguments: str) -> str:
            return f"{opener} {quoted(tool.name)} {grammar.marker(ARGUMENTS)} {arguments}"

        return grammar.build(syntax, between="" if parallel else None)


class _Reader:
    """Remembers whether the calls stand in a list."""

    def __init__(self) -> None:
        self.is_in_list = False

    def read_first(self, tape: Tape, call: Call) -> Reading[None]:
        yield from tape.skip_space()
        self.is_in_list = yield from tape.accept("[")
        if self.is_in_list or (yield from tape.peek()) == "{":
            yield from self.read_next(tape, call)
            return
        name = yield from read_word(tape, (CALL_ID, ARGUMENTS, "{"))
        if (yield from tape.accept(CALL_ID)):
            yield from read_word(tape, (ARGUMENTS, "{"))
        yield from tape.accept(ARGUMENTS)
        call.set_name(name)
        yield from tape.skip_space()
        yield from read_arguments(tape, call)

    def read_next(self, tape: Tape, call: Call) -> Reading[None]:
        yield from tape.skip_space()
        yield from read_call(tape, call)
