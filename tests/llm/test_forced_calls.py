"""A forced choice: whatever the model would rather write, what comes out are calls that fit their schemas."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from appliance.errors import InvalidRequest, InvalidValue
from appliance.llm.backend import Logits
from appliance.llm.constraint import Constrained
from appliance.llm.dialects import detect
from appliance.llm.dialects.conform import complaint
from appliance.llm.dialects.dialect import Dialect
from appliance.llm.dialects.stream import AnswerStream, joined
from appliance.llm.draft import PromptLookup
from appliance.llm.fake import FakeVocabulary, checksum_token
from appliance.llm.grammar import GrammarCompiler
from appliance.llm.prepare import Preparer
from appliance.records import (
    ChatPrompt,
    Delta,
    Ended,
    Generate,
    Message,
    SamplingParams,
    Step,
    Tool,
    ToolChoice,
)

DEEPSEEK = "<｜tool▁call▁begin｜>"
TOOLS = (
    Tool(
        name="get_weather",
        parameters={
            "properties": {"city": {"$ref": "#/$defs/city"}, "unit": {"enum": ["celsius", "fahrenheit"]}},
            "required": ["city"],
            "$defs": {"city": {"type": "string", "maxLength": 20}},
        },
        strict=True,
    ),
    Tool(name="add", parameters={"properties": {"a": {"type": "number"}, "b": {"type": "integer"}}}),
    Tool(name="get_time"),
)
TEMPLATES = {
    "hermes": 'tools <tool_call> {"name":',
    "qwen-xml": "tools <tool_call> <function=",
    "llama3": 'tools <|start_header_id|> "parameters": ',
    "mistral list": "tools [TOOL_CALLS]",
    "mistral names": "tools [TOOL_CALLS] [ARGS]",
    "deepseek r1": f"{DEEPSEEK} ```json",
    "deepseek v3.1": f"{DEEPSEEK}",
    "harmony": "tools <|channel|>",
    "generic": "<|im_start|>",
}


class Whims:
    """A sampler that draws any token that is possible at all."""

    is_memoryless = False

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.logits: Logits = np.zeros(0, np.float32)

    def pick(self, row: int) -> int:
        return int(self._random.choice(np.flatnonzero(np.isfinite(self.logits))))

    def accept(self, token: int) -> None: ...

    def close(self) -> None: ...


@pytest.fixture(scope="module")
def compiler() -> GrammarCompiler:
    return GrammarCompiler(FakeVocabulary())


def forced(names: tuple[str, ...] | None = None, *, parallel: bool = False) -> ChatPrompt:
    choice = ToolChoice(mode="required", names=names, parallel=parallel)
    return ChatPrompt(messages=(), tools=TOOLS, tool_choice=choice)


def no_token(_: str) -> None:
    return None


def write(constrained: Constrained, seed: int, budget: int) -> bytes:
    vocabulary, sampler, tokens = FakeVocabulary(), Whims(seed), list[int]()
    while len(tokens) < budget and not constrained.is_complete:
        sampler.logits = np.zeros(vocabulary.size, np.float32)
        token = constrained.pick(sampler, sampler.logits, 0, budget - len(tokens))
        if vocabulary.ends_generation(token):
            break
        tokens += [token, *constrained.forced(budget - len(tokens) - 1)]
    return bytes(tokens)


def read(dialect: Dialect, prompt: ChatPrompt, written: bytes) -> list[tuple[str, dict[str, Any]]]:
    stream = AnswerStream((), dialect.parser(prompt, ""))
    said = joined([stream.push(written), stream.finish(whole=True)])
    assert not said.text.strip(), "nothing but calls"
    assert not stream.warnings
    calls: dict[int, list[str]] = {}
    for delta in said.tool_calls:
        calls.setdefault(delta.index, [delta.name or "", ""])[1] += delta.arguments
    return [(name, json.loads(arguments)) for name, arguments in calls.values()]


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
@pytest.mark.parametrize("parallel", [False, True])
def test_whims_become_calls(compiler: GrammarCompiler, template: str, parallel: bool) -> None:
    dialect = detect(template, has_tools="tools" in template)
    prompt = forced(parallel=parallel)
    matcher = compiler.compile(dialect.constraint(prompt, no_token))
    schemas = {tool.name: tool.parameters for tool in TOOLS}
    seen = set()
    for seed in range(12):
        budget = 260 + 20 * seed
        written = write(Constrained(matcher.fork(), budget), seed, budget)
        assert len(written) <= budget
        calls = read(dialect, prompt, written)
        assert calls
        assert parallel or len(calls) == 1
        for name, arguments in calls:
            assert complaint(schemas[name], arguments) is None
            assert set(arguments) <= set(schemas[name].get("properties", {})), "and no others"
        seen |= {name for name, _ in calls}
    assert len(seen) > 1, "the choice of the tool is the model's"


def test_a_named_tool_is_the_one_called(compiler: GrammarCompiler) -> None:
    dialect = detect(TEMPLATES["hermes"], has_tools=True)
    prompt = forced(("add",))
    matcher = compiler.compile(dialect.constraint(prompt, no_token))
    for seed in range(5):
        written = write(Constrained(matcher.fork(), 300), seed, 300)
        assert [name for name, _ in read(dialect, prompt, written)] == ["add"]


def test_markers_that_are_tokens_are_forced_as_tokens() -> None:
    grammar = detect(TEMPLATES["hermes"], has_tools=True).constraint(forced(), {"<tool_call>": 7}.get)
    assert "<[7]>" in grammar.text
    assert '"</tool_call>"' in grammar.text


def generate(prompt: ChatPrompt, max_tokens: int = 200) -> Generate:
    return Generate(id=1, prompt=prompt, sampling=SamplingParams(temperature=0, max_tokens=max_tokens))


def preparer() -> Preparer:
    template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    return Preparer(FakeVocabulary(), context_length=4000, chat_template=template)


def asking(tools: Sequence[Tool], choice: ToolChoice) -> ChatPrompt:
    return ChatPrompt(messages=(Message(role="user", content="hi"),), tools=tuple(tools), tool_choice=choice)


def test_a_schema_that_cannot_be_forced_names_its_tool() -> None:
    broken = Tool(name="bad", parameters={"properties": {"x": {"not": {}}}, "required": ["x"]}, strict=True)
    with pytest.raises(InvalidRequest) as caught:
        preparer().admit(generate(asking((*TOOLS, broken), ToolChoice(mode="required"))), arrived=0.0)
    assert caught.value.param == "tools[3].function.parameters"
    preparer().admit(generate(asking((*TOOLS, broken), ToolChoice())), arrived=0.0)


def test_a_budget_that_no_call_fits_is_refused() -> None:
    with pytest.raises(InvalidValue) as caught:
        preparer().admit(generate(asking(TOOLS, ToolChoice(mode="required")), max_tokens=5), arrived=0.0)
    assert caught.value.param == "max_tokens"


@pytest.mark.parametrize("drafts", [False, True])
def test_the_engine_says_calls_and_not_text(rig: Any, drafts: bool) -> None:
    room = rig(cells=2000, batch_tokens=64, busy_prefill_tokens=16)
    room.engine.start_drafter = PromptLookup if drafts else None
    choice = ToolChoice(mode="required", parallel=False)
    admit = preparer().admit(generate(asking(TOOLS, choice)), arrived=0.0)
    room.engine.inbox.put(admit)
    room.run()
    deltas: list[Delta] = [d for e in room.events if isinstance(e, Step) for d in e.deltas]
    assert isinstance(room.events[-1], Ended)
    assert "".join(delta.text for delta in deltas) == ""
    assert deltas[-1].finish_reason in ("tool_calls", "length")
    arguments = json.loads("".join(c.arguments for delta in deltas for c in delta.tool_calls))
    name = next(c.name for delta in deltas for c in delta.tool_calls)
    assert complaint(next(t for t in TOOLS if t.name == name).parameters, arguments) is None
    assert sum(delta.tokens for delta in deltas) == room.events[-1].usage.completion_tokens


def copy_first(history: Sequence[int]) -> int:
    """Within the first call what followed the same nine characters before, then whatever the cache says."""
    text = bytes(token for token in history if token < 256)
    at = text.rfind(text[-9:], 0, len(text) - 1)
    if CLOSER in text.split(b"assistant:")[-1] or at < 0:
        return checksum_token(history)
    return text[at + 9]


CLOSER = b"</tool_call>\n<tool"
SAYING = {"properties": {"words": {"type": "string", "maxLength": 12}}, "required": ["words"]}


def test_drafts_change_no_forced_call(rig: Any) -> None:
    """What a draft got wrong must not stay in the cache beneath the tokens that the constraint forced."""
    message = Message(role="user", content='"words": "hello, Ada", "more words": 1')
    prompt = ChatPrompt(
        messages=(message,),
        tools=(Tool(name="say", parameters=SAYING),),
        tool_choice=ToolChoice(mode="required", parallel=True),
    )

    def answer(*, drafts: bool) -> tuple[str, int]:
        room = rig(cells=4000, batch_tokens=64, busy_prefill_tokens=16, answer=copy_first)
        room.engine.start_drafter = PromptLookup if drafts else None
        room.engine.inbox.put(preparer().admit(generate(prompt, max_tokens=300), arrived=0.0))
        room.run()
        deltas = [d for e in room.events if isinstance(e, Step) for d in e.deltas]
        return "".join(call.arguments for d in deltas for call in d.tool_calls), len(deltas)

    (plain, steps), (drafted, fewer) = answer(drafts=False), answer(drafts=True)
    assert "hello" in plain
    assert drafted == plain
    assert fewer < steps, "drafts were confirmed"
