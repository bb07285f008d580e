"""Reasoning that a model writes before its answer, between two marks."""

from __future__ import annotations

from typing import NamedTuple

from appliance.llm.dialects.answer import Answer
from appliance.llm.dialects.tape import Reading


class ThinkMarks(NamedTuple):
    opener: str
    closer: str


KNOWN_MARKS = (ThinkMarks("<think>", "</think>"), ThinkMarks("[THINK]", "[/THINK]"))


def marks_of(template: str) -> ThinkMarks | None:
    """The marks that a chat template knows; None for a model that does not reason apart."""
    return next((marks for marks in KNOWN_MARKS if marks.closer in template), None)


def is_open(prompt: str, marks: ThinkMarks | None) -> bool:
    """Whether the rendered prompt ends inside the reasoning that the answer is to go on with."""
    return marks is not None and prompt.rstrip().endswith(marks.opener)


def read_thinking(answer: Answer, marks: ThinkMarks | None, *, has_begun: bool) -> Reading[None]:
    """The reasoning at an answer's beginning, if there is any; white space around it belongs to nobody."""
    if marks is None:
        return
    tape = answer.tape
    space = yield from tape.skip_space()
    answer.is_thinking = has_begun
    if not (yield from tape.accept(marks.opener)) and not has_begun:
        answer.say(space)
        return
    answer.is_thinking = True
    yield from tape.skip_space()
    if (yield from tape.until((marks.closer,), answer.think)) is not None:
        tape.take(len(marks.closer))
        answer.is_thinking = False
        yield from tape.skip_space()
