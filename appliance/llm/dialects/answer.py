"""What a model's answer is made of while it is being read: text, reasoning and calls; and who reads it.

A family's way of writing is a script, a reading of an `Answer`; `AnswerParser` runs it as the text arrives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from appliance.llm.dialects.calls import Call, Calls, new_call_id
from appliance.llm.dialects.json_reader import Malformed
from appliance.llm.dialects.tape import Reading, Tape
from appliance.records import Tool, ToolCallDelta


class Said(NamedTuple):
    """What a piece of an answer added to it."""

    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCallDelta, ...] = ()


class Answer:
    """`tools`: those that may be called. `parallel`: whether more than one call may be made."""

    def __init__(
        self,
        tools: Mapping[str, Tool],
        *,
        parallel: bool = True,
        new_id: Callable[[], str] = new_call_id,
    ) -> None:
        self.tape = Tape()
        self.calls = Calls(tools, new_id)
        self.parallel = parallel
        self.is_thinking = False
        self.repeats_itself = False  # a call has been made again with the same arguments
        self.warnings: list[str] = []
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._last = "\n"  # the last character of text said, or a line break before the first

    def say(self, text: str) -> None:
        if text:
            self._text.append(text)
            self._last = text[-1]

    def think(self, text: str) -> None:
        if text:
            self._reasoning.append(text)

    @property
    def is_at_line_start(self) -> bool:
        """Whether what `until` found last, or what comes next, begins a line."""
        return "\n" in self.tape.space or self._last == "\n"

    @property
    def is_done(self) -> bool:
        """Whether the one call that is allowed has been made, or no further one will be another."""
        return (self.repeats_itself or not self.parallel) and self.calls.finished > 0

    def warn_of(self, call: Call, error: Malformed) -> None:
        if call.is_certain:
            self.warnings.append(f"the model's call of {call.name} {error}: its arguments are incomplete")
        else:
            self.warnings.append(f"the model wrote a tool call that {error}: it is part of the text")

    def collect(self) -> Said:
        said = Said("".join(self._text), "".join(self._reasoning), self.calls.collect())
        self._text, self._reasoning = [], []
        return said


Script = Callable[[Answer], Reading[None]]


class AnswerParser:
    """Runs a family's script over an answer's text as it arrives."""

    def __init__(self, script: Script, answer: Answer) -> None:
        self._answer = answer
        self._reading = script(answer)
        next(self._reading, None)

    @property
    def is_thinking(self) -> bool:
        return self._answer.is_thinking

    @property
    def is_done(self) -> bool:
        return self._answer.is_done

    @property
    def has_calls(self) -> bool:
        return self._answer.calls.count > 0

    @property
    def warnings(self) -> tuple[str, ...]:
        return tuple(self._answer.warnings)

    def push(self, text: str) -> Said:
        """What `text` makes certain."""
        self._answer.tape.feed(text)
        next(self._reading, None)
        return self._answer.collect()

    def finish(self, *, whole: bool) -> Said:
        """What was still open. `whole`: the model ended by itself, it was not cut off."""
        self._answer.tape.end(whole=whole)
        next(self._reading, None)
        return self._answer.collect()


def read_section(answer: Answer, opener: str, read: Callable[[Tape, Call], Reading[None]]) -> Reading[bool]:
    """A call behind `opener`, which comes next; False, and all of it text, when it is none.

    A call that goes wrong after it became certain cannot be taken back; its arguments end where it did.
    """
    if answer.is_done:
        yield from answer.tape.drop_rest()
        return False
    tape, call, space = answer.tape, answer.calls.begin(), answer.tape.space
    tape.record()
    tape.take(len(opener))
    try:
        yield from read(tape, call)
        call.close()
    except Malformed as error:
        written = tape.recorded()
        if call.is_certain or opener:  # without an opener it may have been meant as text
            answer.warn_of(call, error)
        if not call.is_certain:
            answer.say(space + written)
        return call.is_certain
    tape.recorded()
    return True
