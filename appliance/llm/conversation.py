"""A conversation as its model wants to read it: the chat template, filled in as its dialect has it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from msgspec.structs import replace

from appliance.errors import InvalidRequest, TemplateRefusal
from appliance.llm.dialects import detect
from appliance.llm.dialects.dialect import Definitions, Turn, offered
from appliance.llm.template import ChatTemplate
from appliance.records import ChatPrompt, Message

SWITCHES = ("enable_thinking", "thinking")  # what templates call the option that turns reasoning on and off
EFFORTS = {
    "none": "low",
    "minimal": "low",
    "xhigh": "high",
    "max": "high",
}  # gpt-oss knows low, medium and high

CALLS_ONLY = (
    "the form that the answer's text should have is ignored: tool_choice asks for calls instead of text"
)
TEXT_ONLY = "no tool can be called: the answer's text is held to the form that was asked for"


class Conversation:
    def __init__(self, template: ChatTemplate, source: str) -> None:
        self._template = template
        self.dialect = detect(source, has_tools=template.has_tools)
        self._switch = next((name for name in SWITCHES if name in template.options), None)
        self._reads_names = _reads_names(template)

    def render(self, prompt: ChatPrompt, *, is_constrained: bool = False) -> str:
        """The prompt's text, with control-token texts in the client's own words severed.

        A forced call or an otherwise constrained answer begins at once, without reasoning; so does one that
        continues the last turn, whose text ends the prompt as it stands.
        """
        if prompt.continues:
            *before, last = prompt.messages
            opened = replace(prompt, messages=tuple(before), continues=False)
            return self.render(opened, is_constrained=True) + self._template.severed(last.content)
        is_forced = prompt.tool_choice.mode == "required"
        turns, tools = self.dialect.conversation(prompt)
        options = {
            **self._reasoning_options(prompt, at_once=is_forced or is_constrained),
            **prompt.template_options,
        }
        text = self._render(turns, tools, options)
        if is_forced:
            return self.dialect.without_reasoning(text)
        return self.dialect.opened(text) if is_constrained else text

    def _render(self, turns: list[Turn], tools: Definitions | None, options: dict[str, Any]) -> str:
        try:
            return self._template.render(turns, tools=tools, options=options)
        except TemplateRefusal:
            raise
        except InvalidRequest:
            if tools is not None or not self._template.has_tools:
                raise
            # The convention is None for no tools, but some templates loop over them without asking.
            return self._template.render(turns, tools=[], options=options)

    def warnings(self, prompt: ChatPrompt, *, is_constrained: bool = False) -> Iterator[str]:
        if self.dialect.warning and offered(prompt):
            yield self.dialect.warning
        if is_constrained and offered(prompt):
            yield CALLS_ONLY if prompt.tool_choice.mode == "required" else TEXT_ONLY
        if any(message.reasoning for message in prompt.messages) and not self.dialect.reads_reasoning:
            yield "reasoning_content is ignored: this model's chat template does not read it"
        if not self._reads_names and any(each.name and each.role != "tool" for each in prompt.messages):
            yield "name is ignored: this model's chat template does not read who speaks"
        effort = prompt.reasoning_effort
        if effort is None or "reasoning_effort" in self._template.options:
            return
        if self._switch is None and (effort != "none" or self.dialect.thinking is not None):
            yield "reasoning_effort is ignored: this model's chat template has no such option"
        elif self._switch is not None and effort != "none":
            yield "reasoning_effort: this model's chat template only turns reasoning on or off; it is on"

    def _reasoning_options(self, prompt: ChatPrompt, *, at_once: bool) -> dict[str, Any]:
        effort = prompt.reasoning_effort
        if effort is not None and "reasoning_effort" in self._template.options:
            return {"reasoning_effort": EFFORTS.get(effort, effort)}
        if self._switch is None:
            return {}
        if effort == "none" or at_once:
            return {self._switch: False}
        return {} if effort is None else {self._switch: True}


def _reads_names(template: ChatTemplate) -> bool:
    """Whether it makes a difference what a speaker is called. True where that cannot be seen."""
    said = Message(role="user", content="x")
    try:
        return template.render([said]) != template.render([replace(said, name="somebody")])
    except InvalidRequest:
        return True
