"""Calls in a notation that the model's template does not ask for: a JSON object, fenced, tagged or bare.

Qwen2.5-Coder answers so. To be a call, such JSON must end the answer, name a given tool and fit its schema;
everything else is text. It is held back only as long as it may still become one.
"""

from __future__ import annotations

from appliance.llm.dialects.answer import Answer
from appliance.llm.dialects.calls import Call, read_call
from appliance.llm.dialects.json_reader import Malformed
from appliance.llm.dialects.tape import Reading, Tape

FENCE = "```"
TAGS = {f"<{name}>": f"</{name}>" for name in ("tool_call", "tool_calls", "tools", "function_call", "tool")}
OPENERS = (FENCE, "{", "[", *TAGS)
LANGUAGES = ("", "json", "tool_call", "tool_code", "xml", "plaintext")
MAX_LANGUAGE_CHARS = 16
MAX_WRAPPERS = 2  # a tag inside a fence, or the other way round


def read_foreign(answer: Answer) -> Reading[None]:
    """Calls from one of `OPENERS`, which comes next, to the answer's end; or text, if that is what it is."""
    tape, space = answer.tape, answer.tape.space
    calls: list[Call] = []
    tape.record()
    try:
        while (is_more := (yield from _is_more(tape))) and not (yield from _has_enough(answer, calls)):
            yield from _read_block(answer, calls)
    except Malformed:
        answer.say(space + tape.recorded())
        return
    tape.recorded()
    if not answer.parallel and (is_more or len(calls) > 1):
        answer.warnings.append("the model made several calls; parallel_tool_calls is false, so one is kept")
    for call in calls if answer.parallel else calls[:1]:
        call.close()


def _is_more(tape: Tape) -> Reading[bool]:
    yield from tape.skip_space()
    return bool((yield from tape.peek()))


def _has_enough(answer: Answer, calls: list[Call]) -> Reading[bool]:
    """Whether another call begins, where one is all that may be made, or the model has begun to repeat
    itself: small models call on and on."""
    if answer.repeats_itself:
        return True
    if answer.parallel or not calls:
        return False
    return (yield from _begins_block(answer.tape))


def _begins_block(tape: Tape) -> Reading[bool]:
    if (yield from tape.peek()) in ("{", "["):
        return True
    longest = max(map(len, (FENCE, *TAGS)))
    return (yield from tape.peek(longest)).startswith((FENCE, *TAGS))


def _read_block(answer: Answer, calls: list[Call], depth: int = 0) -> Reading[None]:
    """One fenced or tagged block, or one bare value, with all the calls in it."""
    tape = answer.tape
    yield from tape.skip_space()
    opener = yield from _opener(tape)
    if depth > MAX_WRAPPERS:
        raise Malformed("is wrapped too often")
    if opener == FENCE:
        yield from _read_language(tape)
    if opener:
        yield from _read_block(answer, calls, depth + 1)
    else:
        yield from _read_calls(answer, calls)
    yield from tape.skip_space()
    reads_on = not opener and (answer.parallel or depth > 0)
    while reads_on and not answer.repeats_itself and (yield from tape.peek()) in ("{", "["):
        yield from _read_calls(answer, calls)
        yield from tape.skip_space()
    closer = FENCE if opener == FENCE else TAGS.get(opener, "")
    if answer.repeats_itself:
        return
    if not (yield from tape.accept(closer)) and (tape.held or not tape.whole):
        raise Malformed(f"does not end with {closer}")


def _opener(tape: Tape) -> Reading[str]:
    """The fence or tag that came next, taken; empty if none did."""
    for opener in (FENCE, *TAGS):
        if (yield from tape.accept(opener)):
            return opener
    return ""


def _read_language(tape: Tape) -> Reading[None]:
    language = ""
    while (char := (yield from tape.peek())) and char not in "\n{[<":
        language += tape.take(1)
        if len(language) > MAX_LANGUAGE_CHARS:
            break
    if language.strip().lower() not in LANGUAGES:
        raise Malformed("is in another language")


def _read_calls(answer: Answer, calls: list[Call]) -> Reading[None]:
    """A call, or a list of calls."""
    tape = answer.tape
    if not (yield from tape.accept("[")):
        yield from _read_one(answer, calls)
        return
    while True:
        yield from tape.skip_space()
        yield from _read_one(answer, calls)
        yield from tape.skip_space()
        if (yield from tape.accept("]")):
            return
        if not (yield from tape.accept(",")):
            raise Malformed("is not a list of calls")


def _read_one(answer: Answer, calls: list[Call]) -> Reading[None]:
    call = Call(answer.calls, is_doubtful=True)
    yield from read_call(answer.tape, call)
    call.check()
    if any(call.is_like(other) for other in calls):
        answer.repeats_itself = True
    else:
        calls.append(call)


def read_text(answer: Answer, markers: tuple[str, ...]) -> Reading[str | None]:
    """Text up to one of `markers`, which then comes next, or to the answer's end; foreign calls included."""
    tape = answer.tape
    openers = OPENERS if answer.calls.tools else ()
    while True:
        if answer.is_done:
            yield from tape.drop_rest()
            return None
        found = yield from tape.until((*markers, *openers), answer.say)
        if found is None or found in markers:
            return found
        if answer.calls.count == 0 and (found in TAGS or answer.is_at_line_start):
            yield from read_foreign(answer)
        else:
            answer.say(tape.space + tape.take(len(found)))
