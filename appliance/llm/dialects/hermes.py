"""Qwen2.5, Qwen3, Hermes and others: `<tool_call>{"name": …, "arguments": {…}}</tool_call>` for each call."""

from __future__ import annotations

from typing import ClassVar

from appliance.llm.dialects.answer import Answer, read_section
from appliance.llm.dialects.calls import Call, read_call
from appliance.llm.dialects.dialect import Dialect
from appliance.llm.dialects.foreign import read_text
from appliance.llm.dialects.json_reader import Malformed
from appliance.llm.dialects.lark import CallGrammar, json_call, quoted
from appliance.llm.dialects.tape import Reading, Tape
from appliance.records import GrammarConstraint, Tool

OPENER, CLOSER = "<tool_call>", "</tool_call>"


class Hermes(Dialect):
    name = "hermes"
    markers: ClassVar[tuple[str, ...]] = (OPENER,)
    quiet_tokens: ClassVar[tuple[str, ...]] = (CLOSER,)

    def read_answer(self, answer: Answer) -> Reading[None]:
        markers = (OPENER,) if answer.calls.tools else ()
        while (yield from read_text(answer, markers)) is not None:
            if (yield from read_section(answer, OPENER, self.read_tagged)):
                yield from answer.tape.skip_space()

    def read_tagged(self, tape: Tape, call: Call) -> Reading[None]:
        yield from tape.skip_space()
        yield from read_call(tape, call)
        yield from read_closer(tape, CLOSER)

    def call_grammar(self, grammar: CallGrammar, *, parallel: bool) -> GrammarConstraint:
        opener, closer = grammar.marker(OPENER), grammar.marker(CLOSER)
        line = quoted("\n")

        def syntax(tool: Tool, arguments: str) -> str:
            return f"{opener} {line} {json_call(tool, arguments)} {line} {closer}"

        return grammar.build(syntax, between=line if parallel else None)


def read_closer(tape: Tape, closer: str) -> Reading[None]:
    """The mark behind a call; it may be missing at the end of an answer. Raises Malformed."""
    yield from tape.skip_space()
    while (yield from tape.peek()) == "}":  # small models close one bracket too many
        tape.take(1)
        yield from tape.skip_space()
    if not (yield from tape.accept(closer)) and tape.held:
        raise Malformed(f"is not closed with {closer}")
