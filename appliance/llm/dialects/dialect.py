"""What families of chat models have in common: how tools enter a prompt and calls come out of an answer.

A dialect knows one family's way of writing; it is chosen by the model's chat template and knows no tokens,
no HTTP and no engine.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, ClassVar

from appliance.llm.dialects.answer import Answer, AnswerParser
from appliance.llm.dialects.calls import new_call_id
from appliance.llm.dialects.lark import CallGrammar, TokenId
from appliance.llm.dialects.tape import Reading
from appliance.llm.dialects.thinking import ThinkMarks, is_open, marks_of, read_thinking
from appliance.records import ChatPrompt, GrammarConstraint, Message, Tool, ToolCall

Turn = dict[str, Any]
Definitions = list[dict[str, Any]]


class Dialect:
    """Base of all families: the Hugging Face conventions for templates that have tools of their own."""

    name: ClassVar[str]
    markers: ClassVar[tuple[str, ...]] = ()  # texts that begin a call
    quiet_tokens: ClassVar[tuple[str, ...]] = ()  # further control tokens that the parser must see
    always_parses: ClassVar[bool] = False  # answers have marks even without tools and reasoning
    writes_arguments_as_text = False  # the template joins them to its text as they are

    def __init__(self, template: str) -> None:
        self._template = template
        self.thinking: ThinkMarks | None = marks_of(template)
        self.warning: str | None = None  # said of every request that has tools

    @property
    def reads_reasoning(self) -> bool:
        """Whether the template has a place for the reasoning of earlier answers."""
        return "reasoning_content" in self._template

    @property
    def visible_specials(self) -> frozenset[str]:
        """Control tokens whose texts `parser` must see; all others are not part of an answer."""
        return frozenset([*self.markers, *self.quiet_tokens, *(self.thinking or ())])

    # Into the prompt

    def conversation(self, prompt: ChatPrompt) -> tuple[list[Turn], Definitions | None]:
        """The turns and the tools as the template reads them; None: there are no tools."""
        return self.turns(prompt.messages), definitions(offered(prompt)) or None

    def turns(self, messages: Sequence[Message]) -> list[Turn]:
        names = {call.id: call.name for message in messages for call in message.tool_calls}
        return [self.turn(message, names) for message in messages]

    def turn(self, message: Message, names: dict[str, str]) -> Turn:
        """`names`: the tools that were called, by the calls' ids."""
        turn: Turn = {"role": message.role, "content": message.content}
        name = message.name or names.get(message.tool_call_id or "")
        if name:
            turn["name"] = name
        if message.tool_call_id is not None:
            turn["tool_call_id"] = self.known_id(message.tool_call_id)
        if message.tool_calls:
            turn["tool_calls"] = [self.call_entry(call) for call in message.tool_calls]
        if message.reasoning and self.reads_reasoning:
            turn["reasoning_content"] = message.reasoning
        return turn

    def call_entry(self, call: ToolCall) -> dict[str, Any]:
        text = call.arguments or "{}"
        arguments = text if self.writes_arguments_as_text else parsed(text)
        function = {"name": call.name, "arguments": arguments}
        return {"type": "function", "id": self.known_id(call.id), "function": function}

    def known_id(self, id: str) -> str:
        """`id` as the template takes ids."""
        return id

    def without_reasoning(self, rendered: str) -> str:
        """The prompt with its answer's reasoning over before it began."""
        if self.thinking is None or not is_open(rendered, self.thinking):
            return rendered
        return f"{rendered.rstrip()}\n\n{self.thinking.closer}\n\n"

    def opened(self, rendered: str) -> str:
        """The prompt as it stands before the text of an answer without reasoning and calls."""
        return self.without_reasoning(rendered)

    # Out of the answer

    def new_id(self) -> str:
        return new_call_id()

    def parser(self, prompt: ChatPrompt, rendered: str) -> AnswerParser | None:
        """A parser of one answer to the `rendered` prompt; None where every answer is plain text."""
        tools = {tool.name: tool for tool in offered(prompt)}
        names = prompt.tool_choice.names
        allowed = {name: tool for name, tool in tools.items() if names is None or name in names}
        if not allowed and self.thinking is None and not self.always_parses:
            return None
        answer = Answer(allowed, parallel=prompt.tool_choice.parallel, new_id=self.new_id)
        has_begun = is_open(rendered, self.thinking)

        def script(answer: Answer) -> Reading[None]:
            yield from read_thinking(answer, self.thinking, has_begun=has_begun)
            yield from self.read_answer(answer)

        return AnswerParser(script, answer)

    def read_answer(self, answer: Answer) -> Reading[None]:
        """Read an answer from behind its reasoning to its end."""
        raise NotImplementedError

    # A forced choice

    def constraint(self, prompt: ChatPrompt, token_id: TokenId) -> GrammarConstraint:
        """What an answer must look like that has to be calls."""
        choice = prompt.tool_choice
        tools = [tool for tool in prompt.tools if choice.names is None or tool.name in choice.names]
        return self.call_grammar(CallGrammar(tools, token_id), parallel=choice.parallel)

    def call_grammar(self, grammar: CallGrammar, *, parallel: bool) -> GrammarConstraint:
        raise NotImplementedError


def offered(prompt: ChatPrompt) -> tuple[Tool, ...]:
    """The tools that the model is told of."""
    return () if prompt.tool_choice.mode == "none" else prompt.tools


def definitions(tools: Sequence[Tool]) -> Definitions:
    """Tools as the Hugging Face convention writes them."""
    return [
        {
            "type": "function",
            "function": {
                "name": tool.name,
                "description": tool.description,
                "parameters": tool.parameters or {"type": "object", "properties": {}},
            },
        }
        for tool in tools
    ]


def parsed(arguments: str) -> Any:
    """A call's arguments as the object that templates want; as text where they are none."""
    try:
        value = json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments
    return value if isinstance(value, dict) else arguments
