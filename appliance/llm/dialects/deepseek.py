"""DeepSeek R1 and V3: calls between `<｜tool▁call▁begin｜>` and `<｜tool▁call▁end｜>`, in two generations.

R1 and V3 write `function<｜tool▁sep｜>NAME`, a line break and the arguments in a fenced JSON block; V3.1
writes `NAME<｜tool▁sep｜>` and the arguments.
"""

from __future__ import annotations

import re
from typing import ClassVar

from appliance.llm.dialects.answer import Answer, read_section
from appliance.llm.dialects.calls import Call, read_arguments, read_word
from appliance.llm.dialects.dialect import Definitions, Dialect, Turn
from appliance.llm.dialects.foreign import FENCE, read_text
from appliance.llm.dialects.generic import NO_TOOLS
from appliance.llm.dialects.hermes import read_closer
from appliance.llm.dialects.instruction import describe, example_arguments, instructed
from appliance.llm.dialects.lark import CallGrammar, quoted
from appliance.llm.dialects.tape import Reading, Tape
from appliance.records import ChatPrompt, GrammarConstraint, Message, Tool

CALLS_BEGIN, CALLS_END = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
CALL_BEGIN, CALL_END, SEPARATOR = "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>", "<｜tool▁sep｜>"
KIND = "function"
WRITTEN_AS_JSON = re.compile(r"arguments['\"]?\]?\s*\|\s*tojson")


class DeepSeek(Dialect):
    name = "deepseek"
    markers: ClassVar[tuple[str, ...]] = (CALLS_BEGIN, CALL_BEGIN, CALLS_END)
    quiet_tokens: ClassVar[tuple[str, ...]] = (CALL_END, SEPARATOR)

    def __init__(self, template: str, *, has_tools: bool) -> None:
        super().__init__(template)
        self._has_tools = has_tools
        self.writes_arguments_as_text = WRITTEN_AS_JSON.search(template) is None
        self.warning = None if has_tools else NO_TOOLS

    def conversation(self, prompt: ChatPrompt) -> tuple[list[Turn], Definitions | None]:
        """Most of these templates write calls and results, but not what tools there are."""
        turns, tools = super().conversation(prompt)
        if self._has_tools or tools is None:
            return turns, tools
        name, arguments = prompt.tools[0].name, example_arguments(prompt.tools[0])
        call = f"{KIND}{SEPARATOR}{name}\n{FENCE}json\n{arguments}\n{FENCE}"
        if not self._is_fenced:
            call = f"{name}{SEPARATOR}{arguments}"
        example = f"{CALLS_BEGIN}{CALL_BEGIN}{call}{CALL_END}{CALLS_END}"
        return instructed(turns, describe(prompt.tools, example), self._template), None

    @property
    def _is_fenced(self) -> bool:
        return f"{FENCE}json" in self._template

    def turn(self, message: Message, names: dict[str, str]) -> Turn:
        """Without a `content` where there are only calls: an empty one would become a turn of its own."""
        turn = super().turn(message, names)
        return {**turn, "content": None} if message.tool_calls and not message.content else turn

    def read_answer(self, answer: Answer) -> Reading[None]:
        tape = answer.tape
        while (marker := (yield from read_text(answer, self.markers))) is not None:
            if marker == CALL_BEGIN:
                yield from read_section(answer, CALL_BEGIN, _read_call)
            else:
                tape.take(len(marker))
            yield from tape.skip_space()

    def call_grammar(self, grammar: CallGrammar, *, parallel: bool) -> GrammarConstraint:
        begin, end, separator = map(grammar.marker, (CALL_BEGIN, CALL_END, SEPARATOR))
        is_fenced = self._is_fenced

        def syntax(tool: Tool, arguments: str) -> str:
            if not is_fenced:
                return f"{begin} {quoted(tool.name)} {separator} {arguments} {end}"
            head, foot = quoted(f"{tool.name}\n{FENCE}json\n"), quoted(f"\n{FENCE}")
            return f"{begin} {quoted(KIND)} {separator} {head} {arguments} {foot} {end}"

        around = f"{grammar.marker(CALLS_BEGIN)} {{}} {grammar.marker(CALLS_END)}"
        between = quoted("\n") if is_fenced else ""
        return grammar.build(syntax, between=between if parallel else None, around=around)


def _read_call(tape: Tape, call: Call) -> Reading[None]:
    head = yield from read_word(tape, (SEPARATOR,))
    yield from tape.accept(SEPARATOR)
    if head == KIND:
        head = yield from read_word(tape, ("\n", FENCE, "{"))
    call.set_name(head)
    yield from tape.skip_space()
    is_fenced = yield from tape.accept(FENCE)
    if is_fenced:
        yield from tape.accept("json")
        yield from tape.skip_space()
    yield from read_arguments(tape, call)
    if is_fenced:
        yield from tape.skip_space()
        yield from tape.accept(FENCE)
    yield from read_closer(tape, CALL_END)
