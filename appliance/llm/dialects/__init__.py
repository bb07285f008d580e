"""How families of chat models write tool calls and reasoning; `detect` chooses by the chat template."""

from __future__ import annotations

from appliance.llm.dialects.deepseek import CALL_BEGIN, DeepSeek
from appliance.llm.dialects.dialect import Dialect
from appliance.llm.dialects.generic import Generic
from appliance.llm.dialects.harmony import CHANNEL, Harmony
from appliance.llm.dialects.hermes import OPENER, Hermes
from appliance.llm.dialects.llama3 import HEADER, Llama3
from appliance.llm.dialects.mistral import OPENER as TOOL_CALLS
from appliance.llm.dialects.mistral import Mistral
from appliance.llm.dialects.qwen_xml import FUNCTION, QwenXml

__all__ = ["Dialect", "detect"]


def detect(template: str, *, has_tools: bool) -> Dialect:
    """The dialect of the family that `template` belongs to. `has_tools`: it reads the variable `tools`."""
    if CHANNEL in template:
        return Harmony(template)
    if has_tools and TOOL_CALLS in template:
        return Mistral(template)
    if has_tools and OPENER in template and FUNCTION in template:
        return QwenXml(template)
    if has_tools and OPENER in template and '"name' in template and "<tool_calls>" not in template:
        return Hermes(template)
    if has_tools and HEADER in template and '"parameters": ' in template and FUNCTION not in template:
        return Llama3(template)
    if CALL_BEGIN in template:
        return DeepSeek(template, has_tools=has_tools)
    return Generic(template, has_tools=has_tools)
