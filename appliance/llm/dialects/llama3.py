"""Llama 3.1 to 3.3: a bare `{"name": …, "parameters": {…}}` for an answer, or one behind `<|python_tag|>`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from appliance.llm.dialects.answer import Answer, read_section
from appliance.llm.dialects.calls import Call, read_call
from appliance.llm.dialects.dialect import Dialect, Turn
from appliance.llm.dialects.foreign import read_text
from appliance.llm.dialects.lark import CallGrammar, json_call
from appliance.llm.dialects.single_calls import one_call_a_turn
from appliance.llm.dialects.tape import Reading, Tape
from appliance.records import GrammarConstraint, Message

HEADER = "<|start_header_id|>"  # of every turn
PYTHON_TAG = "<|python_tag|>"


class Llama3(Dialect):
    name = "llama3"
    markers: ClassVar[tuple[str, ...]] = (PYTHON_TAG,)

    def turns(self, messages: Sequence[Message]) -> list[Turn]:
        return super().turns(one_call_a_turn(messages))

    def read_answer(self, answer: Answer) -> Reading[None]:
        tape = answer.tape
        if answer.calls.tools:
            tape.space = yield from tape.skip_space()
            if (yield from tape.peek()) == "{":
                yield from self._read_calls(answer, "")
            else:
                answer.say(tape.space)
        while (yield from read_text(answer, self.markers)) is not None:
            if answer.calls.tools:
                yield from self._read_calls(answer, PYTHON_TAG)
            else:
                tape.take(len(PYTHON_TAG))

    def _read_calls(self, answer: Answer, opener: str) -> Reading[None]:
        """Calls one after the other, with or without a semicolon between them."""
        tape = answer.tape
        goes_on = yield from read_section(answer, opener, _read_spaced)
        while goes_on:
            tape.space = yield from tape.skip_space()
            if (yield from tape.accept(";")):
                yield from tape.skip_space()
            goes_on = (yield from tape.peek()) == "{" and (yield from read_section(answer, "", _read_spaced))

    def call_grammar(self, grammar: CallGrammar, *, parallel: bool) -> GrammarConstraint:
        """One call, whatever `parallel` says: these models know no more."""
        return grammar.build(lambda tool, rule: json_call(tool, rule, "parameters"), between=None)


def _read_spaced(tape: Tape, call: Call) -> Reading[None]:
    yield from tape.skip_space()
    yield from read_call(tape, call)
