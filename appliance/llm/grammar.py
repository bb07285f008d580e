"""Constraints on generated text: JSON schema, regex or grammar → which tokens may come next.

The only import of llguidance. It fails closed: a constraint that cannot be held to is refused before a token
is made. What becomes of a sequence under a constraint is `constraint`'s business.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper
from llguidance.gbnf_to_lark import any_to_lark
from numpy.typing import NDArray

from appliance.errors import InternalError, InvalidValue, UnsupportedParameter
from appliance.llm.backend import Logits, Vocabulary
from appliance.llm.closed_schema import closed
from appliance.llm.closers import Closers, Habit, Leaving, Straight, Weary, closers
from appliance.records import Constraint, GrammarConstraint, JsonConstraint, RegexConstraint

MAX_CONSTRAINT_BYTES = 64 * 1024
MAX_SCHEMA_DEPTH = 32
LONGEST_CLOSING = 2048
# Between the parts of a JSON text: a line break and an indentation, or a space, and no more than that.
WHITESPACE = r"[\x20\x0A\x09]{0,20}"
LIMITS = LLParserLimits(
    max_items_in_row=2000,
    initial_lexer_fuel=1_000_000,
    step_lexer_fuel=200_000,
    step_max_items=50_000,
    max_lexer_states=50_000,
    max_grammar_size=100_000,
)

Mask = NDArray[np.int32]


class Matcher:
    """Where one sequence stands in its constraint."""

    def __init__(
        self, native: LLMatcher, vocabulary_size: int, ends: frozenset[int], closers: Closers
    ) -> None:
        self._native = native
        self._size = vocabulary_size
        self._ends = ends
        self._closers = closers
        self._mask: Mask = np.zeros((vocabulary_size + 31) // 32, np.int32)

    def allows(self, token: int) -> bool:
        """Whether `token` may come next. Much cheaper than a mask."""
        return bool(self._native.validate_tokens([token]) == 1)

    def ends(self, token: int) -> bool:
        """Whether `token` is an end token."""
        return token in self._ends

    @property
    def any_end(self) -> int:
        return min(self._ends)

    def accept(self, token: int) -> None:
        """The sequence has grown by `token`. Raises InternalError when it was not allowed after all."""
        if not self._native.consume_token(token):
            raise InternalError(f"the constraint cannot go on: {self._native.get_error()}")

    def restrict(self, logits: Logits) -> None:
        """Make every token that may not come next impossible, in place."""
        logits[~self._allowed()] = -np.inf

    @property
    def is_complete(self) -> bool:
        """Whether nothing but the end may follow."""
        return bool(self._native.is_stopped())

    @property
    def is_accepting(self) -> bool:
        """Whether the text is valid as it stands."""
        return bool(self._native.is_accepting())

    def fork(self) -> Matcher:
        """An independent matcher at the same place."""
        return Matcher(self._native.deep_copy(), self._size, self._ends, self._closers)

    def forced(self) -> list[int]:
        """The tokens that must come next in any case."""
        tokens = list(self._native.compute_ff_tokens())
        # A vocabulary may lack a token for some byte; the library then leaves the byte out of its answer.
        return tokens[: self._native.validate_tokens(tokens)] if tokens else []

    def closing(self, at_most: int = LONGEST_CLOSING) -> list[int] | None:
        """Tokens that end the text soonest, the end token not included; None when `at_most` do not do.

        Ways are tried in turn: the most closing character that leaves a number or a word, which ends JSON and
        most grammars; always the most closing one; and where such a habit stays in a loop, the most closing
        of those used least.
        """
        for habit in (Leaving, Straight, Weary):
            found = self._way_out(at_most, habit())
            if found is not None:
                return found
        return None

    def _way_out(self, at_most: int, habit: Habit) -> list[int] | None:
        trial = self.fork()
        tokens: list[int] = []
        while not trial.is_accepting:
            step = trial.forced() or trial._soonest(habit)
            if not step or len(tokens) + len(step) > at_most:
                return None
            if not all(trial._native.consume_token(token) for token in step):
                return None  # a vocabulary without a token for some byte may lead nowhere
            tokens += step
            habit.has_gone(step)
        return tokens

    def _soonest(self, habit: Habit) -> list[int]:
        """One allowed token of a single character, or any allowed one where there is none."""
        order = habit.ordered(self._closers)
        if habit.looks_ahead:
            for closer in order:
                if self._ends_with(closer.token):
                    return [closer.token]
        for closer in order:
            if self.allows(closer.token):
                return [closer.token]
        found = np.flatnonzero(self._allowed())
        return [int(found[0])] if len(found) else []

    def _ends_with(self, token: int) -> bool:
        """Whether `token` may come next and makes the text valid."""
        if not self.allows(token):
            return False
        trial = self.fork()
        return bool(trial._native.consume_token(token)) and trial.is_accepting

    def _allowed(self) -> NDArray[np.bool_]:
        self._native.unsafe_compute_mask_ptr(self._mask.ctypes.data, self._mask.nbytes)
        bits = np.unpackbits(self._mask.view(np.uint8), bitorder="little", count=self._size)
        return bits.astype(bool)


class GrammarCompiler:
    """Compiles constraints for one vocabulary. Building it takes about a second; it is built on first use."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._size = vocabulary.size
        special = {text.encode() for text in vocabulary.special_texts()}
        pieces = [vocabulary.literal(token) for token in range(vocabulary.size)]
        ends = [token for token in range(vocabulary.size) if vocabulary.ends_generation(token)]
        # llguidance marks control tokens, which text must never spell, with a byte that no text contains.
        marked = [b"\xff" + piece if piece in special else piece for piece in pieces]
        self._tokenizer = LLTokenizer(
            TokenizerWrapper(_TokenTable(vocabulary, marked, ends)),
            n_vocab=vocabulary.size,
            eos_token=ends,
            slices=LLTokenizer.json_slices(),
        )
        self._ends = frozenset(ends)
        self._closers = closers({piece: token for token, piece in enumerate(pieces) if len(piece) == 1})

    def compile(self, constraint: Constraint) -> Matcher:
        """A matcher at the constraint's beginning.

        Raises UnsupportedParameter naming a schema keyword that cannot be held to, InvalidValue for a
        constraint that is malformed, too large or too complex.
        """
        grammar, param = _grammar(constraint)
        failed, messages = LLMatcher.validate_grammar_with_warnings(grammar, self._tokenizer, limits=LIMITS)
        if failed:
            raise _refusal(constraint, param, messages[0])
        native = LLMatcher(self._tokenizer, grammar, log_level=0, limits=LIMITS)
        if native.is_error():
            raise _refusal(constraint, param, native.get_error())
        return Matcher(native, self._size, self._ends, self._closers)


GUARD = "\n"


class _TokenTable:
    """The vocabulary as llguidance's TokenizerWrapper wants to see it."""

    def __init__(self, vocabulary: Vocabulary, pieces: Sequence[bytes], ends: Sequence[int]) -> None:
        self._vocabulary = vocabulary
        self.tokens = list(pieces)
        self.eos_token_id = ends[0]
        self.bos_token_id: int | None = None
        self.special_token_ids = [t for t, piece in enumerate(pieces) if piece.startswith(b"\xff")]
        # Sentencepiece puts a space in front of every text; within an answer that is one too many.
        self._adds_space = self._bytes_of(self._tokenize("x")) == b" x"

    def __call__(self, text: str | bytes) -> list[int]:
        words = text.decode("utf-8", errors="replace") if isinstance(text, bytes) else text
        if not self._adds_space:
            return self._tokenize(words)
        tokens = self._tokenize(GUARD + words)  # whose own bytes, which nothing joins, are taken away again
        for count in range(1, len(tokens) + 1):
            if self._bytes_of(tokens[:count]).lstrip(b" ") == GUARD.encode():
                return tokens[count:]
        return self._tokenize(words)

    def _tokenize(self, words: str) -> list[int]:
        return self._vocabulary.tokenize(words, add_bos=False, parse_special=False)

    def _bytes_of(self, tokens: Sequence[int]) -> bytes:
        return b"".join(self.tokens[token] for token in tokens)


def _grammar(constraint: Constraint) -> tuple[str, str]:
    """The constraint in llguidance's own notation, and the request parameter it came from."""
    match constraint:
        case JsonConstraint(schema=schema):
            return _json_grammar(schema), "response_format.json_schema.schema"
        case RegexConstraint(pattern=pattern):
            _check_size(pattern, "regex")
            return str(LLMatcher.grammar_from_regex(pattern)), "regex"
        case GrammarConstraint(text=text, syntax=syntax):
            _check_size(text, "grammar")
            return _text_grammar(text, syntax), "grammar"


def _json_grammar(schema: dict[str, Any] | bool | None) -> str:
    param = "response_format.json_schema.schema"
    wanted: dict[str, Any] = {"type": "object"} if schema is None else {"allOf": [schema]}
    if isinstance(schema, dict):
        _check_size(json.dumps(schema), param)
        _check_depth(schema, param)
        if "x-guidance" in schema:
            raise UnsupportedParameter("the schema may not contain 'x-guidance'", param=param)
        wanted = closed(schema)
    overrides: Any = {"whitespace_pattern": WHITESPACE, "lenient": False, "coerce_one_of": False}
    return str(LLMatcher.grammar_from_json_schema(wanted, overrides=overrides))


def _text_grammar(text: str, syntax: str) -> str:
    if syntax == "lark":
        return str(LLMatcher.grammar_from_lark(text))
    try:
        return str(LLMatcher.grammar_from_lark(any_to_lark(text)))
    except Exception as error:  # the converter raises whatever its parsing trips over
        raise InvalidValue(f"the grammar is not valid GBNF: {error}", param="grammar") from error


def _refusal(constraint: Constraint, param: str, reason: str) -> InvalidValue | UnsupportedParameter:
    said = reason.strip().splitlines()[0][:500] if reason.strip() else "it cannot be compiled"
    if isinstance(constraint, JsonConstraint):
        return UnsupportedParameter(f"the schema cannot be enforced: {said}", param=param)
    return InvalidValue(f"the {param} cannot be enforced: {said}", param=param)


def _check_size(text: str, param: str) -> None:
    if len(text.encode("utf-8", errors="replace")) > MAX_CONSTRAINT_BYTES:
        raise InvalidValue(f"the {param} is larger than {MAX_CONSTRAINT_BYTES} bytes", param=param)


def _check_depth(schema: Any, param: str) -> None:
    level = [schema]
    for _ in range(MAX_SCHEMA_DEPTH):
        level = [
            item
            for value in level
            for item in (
                value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
            )
        ]
        if not level:
            return
    raise InvalidValue(f"the schema nests deeper than {MAX_SCHEMA_DEPTH} levels", param=param)
