"""JSON read while it is being written: strict in what it passes on, forgiving in what it takes.

What comes out is always a beginning of valid JSON, in the spacing of Python's `json.dumps`. Repaired is only
what leaves no doubt about the meaning: brackets missing at the end of an answer that the model ended by
itself, commas too many, Python's True, False and None, raw line breaks and needless escapes in strings.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from appliance.llm.dialects.tape import Reading, Tape

MAX_DEPTH = 64
LITERALS = {
    "true": "true",
    "false": "false",
    "null": "null",
    "True": "true",
    "False": "false",
    "None": "null",
}
NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
PLAIN = re.compile(r'[^"\\\x00-\x1f]+')
UNICODE_ESCAPE = re.compile(r"\\u[0-9a-fA-F]{4}")

Out = Callable[[str], None]


class Malformed(Exception):
    """What the model wrote is not what was expected, and cannot safely be repaired."""


def read_value(tape: Tape, out: Out, depth: int = 0) -> Reading[None]:
    """Any JSON value, white space before it included. Raises Malformed."""
    if depth > MAX_DEPTH:
        raise Malformed(f"nests deeper than {MAX_DEPTH} levels")
    yield from tape.skip_space()
    first = yield from tape.peek()
    if first == "{":
        yield from read_object(tape, out, depth)
    elif first == "[":
        yield from _read_array(tape, out, depth)
    elif first == '"':
        yield from read_string(tape, out)
    elif first and first in "-0123456789":
        out((yield from _word(tape, "+-.0123456789eE", NUMBER.fullmatch)))
    elif first.isalpha():
        word = yield from _word(tape, "aeflnorstuTFN", LITERALS.get)
        out(LITERALS[word])
    else:
        raise Malformed(f"has {first!r} where a value should begin" if first else "ends before a value")


def read_object(tape: Tape, out: Out, depth: int = 0) -> Reading[None]:
    out("{")
    members = read_members(tape)
    separator = ""
    while (key := (yield from next_key(members))) is not None:
        out(separator + json.dumps(key, ensure_ascii=False))
        out(": ")
        yield from read_value(tape, out, depth + 1)
        separator = ", "
    out("}")


class Members:
    """Where a reading stands between the members of an object."""

    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self.is_first = True


def read_members(tape: Tape) -> Members:
    """The object whose `{` comes next; ask `next_key` for its keys and read each value after its key."""
    tape.take(1)
    return Members(tape)


def next_key(members: Members) -> Reading[str | None]:
    """The next member's key, its value coming next on the tape; None after the last."""
    tape = members.tape
    char = yield from _next_entry(tape, "}", members.is_first)
    members.is_first = False
    if char is None:
        return None
    if char != '"':
        raise Malformed(f"has {char!r} where a key should begin")
    key = yield from read_text(tape)
    yield from tape.skip_space()
    if not (yield from tape.accept(":")):
        raise Malformed("has a key without a colon")
    return key


def _read_array(tape: Tape, out: Out, depth: int) -> Reading[None]:
    tape.take(1)
    out("[")
    is_first = True
    while (yield from _next_entry(tape, "]", is_first)) is not None:
        if not is_first:
            out(", ")
        yield from read_value(tape, out, depth + 1)
        is_first = False
    out("]")


def _next_entry(tape: Tape, closer: str, is_first: bool) -> Reading[str | None]:
    """The first character of an entry, which is not taken; None when the closer was, or should have been."""
    while True:
        yield from tape.skip_space()
        char = yield from tape.peek()
        if char == closer:
            tape.take(1)
            return None
        if not char:
            if tape.whole:
                return None
            raise Malformed("is cut off")
        if is_first:
            return char
        if char != ",":
            raise Malformed(f"has {char!r} between two entries")
        tape.take(1)
        is_first = True  # a comma too many is passed over: what follows it may be the closer


def read_text(tape: Tape) -> Reading[str]:
    """The meaning of the string that comes next."""
    parts: list[str] = []
    yield from read_string(tape, parts.append)
    text: str = json.loads("".join(parts))
    return text


def read_string(tape: Tape, out: Out) -> Reading[None]:
    tape.take(1)
    out('"')
    while True:
        if not (yield from tape.peek()):
            raise Malformed("ends inside a string")
        if plain := PLAIN.match(tape.held):
            out(tape.take(plain.end()))
        elif tape.held[0] == '"':
            tape.take(1)
            out('"')
            return
        elif tape.held[0] == "\\":
            out((yield from _escape(tape)))
        else:
            out(json.dumps(tape.take(1))[1:-1])


def _escape(tape: Tape) -> Reading[str]:
    pair = yield from tape.peek(2)
    if len(pair) < 2:
        raise Malformed("ends inside a string")
    if pair[1] == "u":
        code = yield from tape.peek(6)
        if not UNICODE_ESCAPE.fullmatch(code):
            raise Malformed(f"has the unknown escape {code!r}")
        return tape.take(6)
    tape.take(2)
    if pair[1] in '"\\/bfnrt':
        return pair
    return json.dumps(pair[1] if pair[1] in "'\n" else pair, ensure_ascii=False)[1:-1]


def _word(tape: Tape, letters: str, known: Callable[[str], object]) -> Reading[str]:
    word = ""
    while (char := (yield from tape.peek())) and char in letters:
        word += tape.take(1)
    if not char and not tape.whole:
        raise Malformed("is cut off")
    if not known(word):
        raise Malformed(f"has the unknown word {word + char!r}")
    return word
