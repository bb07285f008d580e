"""gpt-oss: messages on channels. `analysis` is reasoning, `final` the answer, `commentary` holds calls.

Source of the format: OpenAI's harmony response format.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import ClassVar

from appliance.llm.dialects.answer import Answer, read_section
from appliance.llm.dialects.calls import Call, read_arguments
from appliance.llm.dialects.dialect import Dialect, Turn
from appliance.llm.dialects.lark import CallGrammar, quoted
from appliance.llm.dialects.single_calls import one_call_a_turn
from appliance.llm.dialects.tape import Reading, Tape
from appliance.records import GrammarConstraint, Message, Tool

START, CHANNEL, MESSAGE, CONSTRAIN = "<|start|>", "<|channel|>", "<|message|>", "<|constrain|>"
END, CALL, RETURN = "<|end|>", "<|call|>", "<|return|>"
ENDS = (END, CALL, RETURN, START)
RECIPIENT = re.compile(r"to=(?:functions\.)?([A-Za-z0-9_.-]+)")
CHANNEL_NAME = re.compile(re.escape(CHANNEL) + r"\s*([a-z]+)")
MAX_HEADER_CHARS = 512


class Harmony(Dialect):
    name = "harmony"
    quiet_tokens: ClassVar[tuple[str, ...]] = (START, CHANNEL, MESSAGE, CONSTRAIN, *ENDS)
    always_parses = True

    def __init__(self, template: str) -> None:
        super().__init__(template)
        self.thinking = None  # a channel of its own, not a pair of marks

    @property
    def reads_reasoning(self) -> bool:
        return True

    def turns(self, messages: Sequence[Message]) -> list[Turn]:
        return super().turns(one_call_a_turn(messages))

    def turn(self, message: Message, names: dict[str, str]) -> Turn:
        turn = super().turn(message, names)
        turn.pop("reasoning_content", None)
        if message.reasoning and message.tool_calls and not message.content:
            turn["thinking"] = message.reasoning  # the template takes it nowhere else
        return turn

    def opened(self, rendered: str) -> str:
        return f"{rendered}{CHANNEL}final{MESSAGE}"

    def read_answer(self, answer: Answer) -> Reading[None]:
        tape = answer.tape
        while (yield from tape.peek()):
            header = yield from _read_header(tape)
            if header is None:
                if tape.ended and tape.held.lstrip().startswith((START, CHANNEL)):
                    tape.take(len(tape.held))  # a header that was cut off is no text
                    return
                yield from tape.accept(START)
                yield from _read_body(answer, "final")
                continue
            channel = CHANNEL_NAME.search(header)
            recipient = RECIPIENT.search(header)
            if recipient is not None and answer.calls.tools:
                tape.space = ""
                if (yield from read_section(answer, header, _call_reader(recipient[1]))):
                    yield from _read_end(tape)
                else:
                    yield from _read_body(answer, "final")
            else:
                tape.take(len(header))
                yield from _read_body(answer, channel[1] if channel else "final")

    def call_grammar(self, grammar: CallGrammar, *, parallel: bool) -> GrammarConstraint:
        """One call, whatever `parallel` says: an answer ends with it."""
        channel, constrain, message = map(grammar.marker, (CHANNEL, CONSTRAIN, MESSAGE))

        def syntax(tool: Tool, arguments: str) -> str:
            recipient = quoted(f"commentary to=functions.{tool.name} ")
            return f"{channel} {recipient} {constrain} {quoted('json')} {message} {arguments}"

        return grammar.build(syntax, between=None)


def _read_header(tape: Tape) -> Reading[str | None]:
    """What stands before the next message's text, `<|message|>` included, not taken; None: nothing does."""
    while MESSAGE not in tape.held:
        if len(tape.held) > MAX_HEADER_CHARS or not _may_begin_header(tape.held):
            return None
        if not (yield from tape.more()):
            return None
    header = tape.held[: tape.held.index(MESSAGE) + len(MESSAGE)]
    return header if _may_begin_header(header) else None


def _may_begin_header(text: str) -> bool:
    text = text.lstrip()
    return any(text.startswith(word[: len(text)]) for word in (START, CHANNEL, "to=", "assistant"))


def _read_body(answer: Answer, channel: str) -> Reading[None]:
    answer.is_thinking = channel == "analysis"
    stop = yield from answer.tape.until(ENDS, answer.think if answer.is_thinking else answer.say)
    answer.is_thinking = False
    if stop is not None and stop != START:
        answer.tape.take(len(stop))


def _call_reader(name: str) -> Callable[[Tape, Call], Reading[None]]:
    def read(tape: Tape, call: Call) -> Reading[None]:
        call.set_name(name)
        yield from tape.skip_space()
        yield from read_arguments(tape, call)

    return read


def _read_end(tape: Tape) -> Reading[None]:
    stop = yield from tape.until(ENDS, lambda _: None)
    if stop is not None and stop != START:
        tape.take(len(stop))
