"""A conversation as its model wants to read it: the chat template, filled in as the model's dialect has it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from appliance.llm.dialects import detect
from appliance.llm.dialects.dialect import offered
from appliance.llm.dialects.thinking import is_open
from appliance.llm.template import ChatTemplate
from appliance.records import ChatPrompt

SWITCHES = ("enable_thinking", "thinking")  # what templates call the option that turns reasoning on and off
EFFORTS = {"none": "low", "minimal": "low", "xhigh": "high"}  # gpt-oss knows low, medium and high


class Conversation:
    def __init__(self, template: ChatTemplate, source: str) -> None:
        self._template = template
        self.dialect = detect(source, has_tools=template.has_tools)
        self._switch = next((name for name in SWITCHES if name in template.options), None)

    def render(self, prompt: ChatPrompt) -> str:
        """The prompt's text, with control-token texts in the client's own words severed."""
        turns, tools = self.dialect.conversation(prompt)
        options = {**self._reasoning_options(prompt), **prompt.template_options}
        text = self._template.render(turns, tools=tools, options=options)
        marks = self.dialect.thinking
        if marks is not None and prompt.tool_choice.mode == "required" and is_open(text, marks):
            return f"{text.rstrip()}\n\n{marks.closer}\n\n"  # a forced call begins at once
        return text

    def warnings(self, prompt: ChatPrompt) -> Iterator[str]:
        if self.dialect.warning and offered(prompt):
            yield self.dialect.warning
        effort = prompt.reasoning_effort
        if effort is None or "reasoning_effort" in self._template.options:
            return
        if self._switch is None and (effort != "none" or self.dialect.thinking is not None):
            yield "reasoning_effort is ignored: this model's chat template has no such option"
        elif self._switch is not None and effort != "none":
            yield "reasoning_effort: this model's chat template only turns reasoning on or off; it is on"

    def _reasoning_options(self, prompt: ChatPrompt) -> dict[str, Any]:
        effort = prompt.reasoning_effort
        if effort is not None and "reasoning_effort" in self._template.options:
            return {"reasoning_effort": EFFORTS.get(effort, effort)}
        if self._switch is None:
            return {}
        if effort == "none" or prompt.tool_choice.mode == "required":
            return {self._switch: False}
        return {} if effort is None else {self._switch: True}
