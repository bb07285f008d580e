"""Constraints over a real matcher: what is refused, what may come next, and how an answer ends in time."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import pytest

from appliance.errors import InvalidRequest, InvalidValue, UnsupportedParameter
from appliance.llm.constraint import Constrained
from appliance.llm.fake import EOS, FakeVocabulary
from appliance.llm.grammar import GrammarCompiler, Matcher
from appliance.records import Constraint, GrammarConstraint, JsonConstraint, RegexConstraint

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer"},
        "tags": {"type": "array", "items": {"type": "string", "minLength": 2}, "minItems": 1},
        "boss": {"anyOf": [{"$ref": "#"}, {"type": "null"}]},
    },
    "required": ["name", "age", "tags", "boss"],
    "additionalProperties": False,
}
VOCABULARY = FakeVocabulary()


@pytest.fixture(scope="module")
def compiler() -> GrammarCompiler:
    return GrammarCompiler(VOCABULARY)


class RandomSampler:
    """Any token that the mask leaves possible, each as likely as the other; ends only when it must."""

    def __init__(self, seed: int, logits: np.ndarray[Any, Any]) -> None:
        self.is_memoryless = seed % 2 == 1
        self._random, self._logits = random.Random(seed), logits

    def pick(self, row: int) -> int:
        possible = np.flatnonzero(np.isfinite(self._logits)).tolist()
        return int(self._random.choice([t for t in possible if t != EOS] or possible))

    def accept(self, token: int) -> None: ...

    def close(self) -> None: ...


def text_of(tokens: list[int]) -> str:
    return b"".join(VOCABULARY.piece(token) for token in tokens).decode("utf-8")


def fits(matcher: Matcher, text: str) -> bool:
    for byte in text.encode():
        if not matcher.allows(byte):
            return False
        matcher.accept(byte)
    return matcher.is_accepting


@pytest.mark.parametrize(
    ("constraint", "good", "bad"),
    [
        (JsonConstraint(schema=None), '{"a": [1, null]}', "[1]"),
        (JsonConstraint(schema={"type": "integer"}), "-12", "1.5"),
        (JsonConstraint(schema={"enum": ["red", "green"]}), '"red"', '"blue"'),
        (RegexConstraint(pattern="[a-c]{2,3}"), "abc", "abcd"),
        (GrammarConstraint(text='root ::= "yes" | "no" [0-9]', syntax="gbnf"), "no7", "maybe"),
        (GrammarConstraint(text='start: "a" start | "b"', syntax="lark"), "aaab", "ba"),
    ],
)
def test_only_what_fits_is_allowed(
    compiler: GrammarCompiler, constraint: Constraint, good: str, bad: str
) -> None:
    assert fits(compiler.compile(constraint), good)
    assert not fits(compiler.compile(constraint), bad)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "contains": {"type": "string"}},
        {"not": {"type": "string"}},
        {"type": "array", "uniqueItems": True},
        {"type": "object", "if": {}, "then": {}},
        {"type": "strin"},
        {"$ref": "http://127.0.0.1/other.json"},
        {"type": "string", "x-guidance": {}, "pattern": "a"},
        {"type": "string", "format": "no-such-format"},
    ],
)
def test_a_schema_that_cannot_be_held_to_is_refused(
    compiler: GrammarCompiler, schema: dict[str, Any]
) -> None:
    # x-guidance is refused at the top only, where it would change the constraint's own settings
    with pytest.raises(UnsupportedParameter) as refused:
        compiler.compile(JsonConstraint(schema=schema))
    assert refused.value.param == "response_format.json_schema.schema"


def test_the_unsupported_keyword_is_named(compiler: GrammarCompiler) -> None:
    with pytest.raises(UnsupportedParameter, match="contains"):
        compiler.compile(JsonConstraint(schema={"type": "array", "contains": {}}))


@pytest.mark.parametrize(
    "constraint",
    [
        RegexConstraint(pattern="(a"),
        RegexConstraint(pattern="a" * 70_000),
        GrammarConstraint(text="root ::= foo", syntax="gbnf"),
        GrammarConstraint(text="start: ((", syntax="lark"),
        JsonConstraint(schema={"enum": ["x" * 70_000]}),
    ],
)
def test_malformed_and_oversized_constraints_are_refused(
    compiler: GrammarCompiler, constraint: Constraint
) -> None:
    with pytest.raises(InvalidRequest):
        compiler.compile(constraint)


def test_a_schema_that_nests_too_deeply_is_refused(compiler: GrammarCompiler) -> None:
    schema: dict[str, Any] = {}
    for _ in range(60):
        schema = {"type": "array", "items": schema}
    with pytest.raises(InvalidValue, match="deeper"):
        compiler.compile(JsonConstraint(schema=schema))


def test_white_space_is_bounded(compiler: GrammarCompiler) -> None:
    assert fits(compiler.compile(JsonConstraint(schema=None)), '{\n            "age": 1}')
    assert not fits(compiler.compile(JsonConstraint(schema=None)), "{" + " " * 40 + "}")


def test_control_tokens_never_fit(compiler: GrammarCompiler) -> None:
    matcher = compiler.compile(RegexConstraint(pattern=".*"))
    assert not matcher.allows(256)
    assert matcher.allows(ord("<"))


def test_forced_tokens_are_those_that_must_follow(compiler: GrammarCompiler) -> None:
    matcher = compiler.compile(GrammarConstraint(text='start: "yes" /[0-9]+/', syntax="lark"))
    assert text_of(matcher.forced()) == "yes"


@pytest.mark.parametrize("budget", [120, 160, 250, 400])
@pytest.mark.parametrize("seed", range(6))
def test_a_rambling_answer_is_closed_into_valid_json(
    compiler: GrammarCompiler, budget: int, seed: int
) -> None:
    logits = np.zeros(VOCABULARY.size, np.float32)
    sampler = RandomSampler(seed, logits)
    constrained = Constrained(compiler.compile(JsonConstraint(schema=PERSON)), budget)
    tokens: list[int] = []
    while not constrained.is_complete:
        logits[:] = 0
        tokens.append(constrained.pick(sampler, logits, 0, budget - len(tokens)))
        tokens += constrained.forced(budget - len(tokens))
        assert len(tokens) <= budget
    answer = json.loads(text_of(tokens))
    assert set(answer) == {"name", "age", "tags", "boss"}
    assert len(answer["tags"]) >= 1


def test_an_answer_that_cannot_fit_is_refused_before_it_begins(compiler: GrammarCompiler) -> None:
    with pytest.raises(InvalidValue) as refused:
        Constrained(compiler.compile(JsonConstraint(schema=PERSON)), 10)
    assert refused.value.param == "max_tokens"


@pytest.mark.parametrize(
    ("grammar", "most"),
    [
        ('root ::= [0-9]+ "+" [0-9]+ "=" [0-9]+', 5),
        ('root ::= [a-z]+ "@" [a-z]+ "." [a-z]{2,9}', 6),
        ('root ::= ("item " [a-z0-9]+ "; ")+ "end"', 11),
        ('root ::= [a-z0-9]+ "x"', 40),
    ],
)
def test_a_grammar_is_left_soon(compiler: GrammarCompiler, grammar: str, most: int) -> None:
    way_out = compiler.compile(GrammarConstraint(text=grammar, syntax="gbnf")).closing()
    assert way_out is not None
    assert len(way_out) <= most, text_of(way_out)


def test_choices_go_their_own_ways(compiler: GrammarCompiler) -> None:
    first = Constrained(compiler.compile(RegexConstraint(pattern="a+|b+")), 10)
    second = first.fork()
    logits = np.zeros(VOCABULARY.size, np.float32)
    logits[ord("a")] = 1

    class Greedy(RandomSampler):
        def pick(self, row: int) -> int:
            return int(self._logits.argmax())

    assert first.pick(Greedy(1, logits), logits, 0, 10) == ord("a")
    logits[ord("b")] = 2
    assert second.pick(Greedy(1, logits), logits, 0, 10) == ord("b")


@pytest.mark.parametrize("memoryless", [True, False])
def test_a_constraint_leaves_the_odds_of_what_it_allows(compiler: GrammarCompiler, memoryless: bool) -> None:
    """Three tokens at odds of 1 to 2 to 5, of which the likeliest may not come."""

    class Drawing(RandomSampler):
        def pick(self, row: int) -> int:
            odds = np.exp(self._logits.astype(np.float64))
            return self._random.choices(range(len(odds)), odds)[0]

    came = {ord("a"): 0, ord("b"): 0}
    constrained = Constrained(compiler.compile(RegexConstraint(pattern="(a|b)x")), 10)
    for seed in range(3000):
        logits = np.full(VOCABULARY.size, -np.inf, np.float32)
        logits[[ord("a"), ord("b"), ord("c")]] = np.log([1, 2, 5])
        drawing = Drawing(seed, logits)
        drawing.is_memoryless = memoryless
        came[constrained.fork().pick(drawing, logits, 0, 10)] += 1
    assert 900 < came[ord("a")] < 1100


class Babbler:
    """Says the same few words for ever, whatever the mask allows."""

    is_memoryless = True

    def __init__(self) -> None:
        self.said = 0

    def logits(self) -> np.ndarray[Any, Any]:
        scores = np.zeros(VOCABULARY.size, np.float32)
        wanted = b'{"name":"' + b"again and " * 1000
        scores[wanted[self.said]] = 9
        return scores

    def pick(self, row: int) -> int:
        return int(self.logits().argmax())

    def accept(self, token: int) -> None: ...

    def close(self) -> None: ...


def test_an_answer_that_goes_in_circles_is_brought_to_a_valid_end(compiler: GrammarCompiler) -> None:
    budget, babbler, tokens = 10_000, Babbler(), list[int]()
    constrained = Constrained(compiler.compile(JsonConstraint(schema=PERSON)), budget)
    while not constrained.is_complete:
        token = constrained.pick(babbler, babbler.logits(), 0, budget - len(tokens))
        if token == EOS:
            break
        tokens.append(token)
        babbler.said += 1
    assert constrained.went_in_circles
    assert not constrained.was_closed
    assert len(tokens) < 400
    assert json.loads(text_of(tokens))["name"].startswith("again and again and ")
