"""What becomes of the parameters of /v1/responses that are not simply served."""

from __future__ import annotations

from appliance.api.opening import TIERS
from appliance.api.responses.schemas import (
    CompactResponse,
    CountInputTokens,
    CreateResponse,
    Item,
    Part,
    ToolEntry,
)
from appliance.api.rules import Rule, apply, is_empty, never
from appliance.errors import InvalidValue, UnsupportedParameter

INCLUDABLE = (
    "file_search_call.results",
    "message.output_text.logprobs",
    "reasoning.encrypted_content",
)
FRUITLESS = (
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
)

CACHE_RULES = (
    Rule("prompt_cache_options", is_empty, "prompts are always cached", refuses=False),
    Rule("prompt_cache_retention", never, "prompts stay cached while there is room", refuses=False),
    Rule("prompt_cache_key", never, "prompts are cached by their tokens, without keys", refuses=False),
)
CREATE_RULES = (
    Rule("prompt", is_empty, "prompt templates are not kept here; send the text itself as `instructions`"),
    Rule("moderation", is_empty, "there is no moderation model"),
    Rule("image", is_empty, "the local models read and write text only"),
    Rule("access_programs", is_empty, "there are no access programs here", refuses=False),
    Rule("service_tier", lambda v: v in TIERS, "the tiers are default, flex and priority", refuses=False),
    Rule("safety_identifier", never, "requests are not tracked by user", refuses=False),
    Rule("user", never, "requests are not tracked by user", refuses=False),
    *CACHE_RULES,
)
REASONING_RULES = (
    Rule("summary", never, "the reasoning itself is in the item's `content`", refuses=False),
    Rule("generate_summary", never, "the reasoning itself is in the item's `content`", refuses=False),
    Rule("context", never, "the model's chat template decides which reasoning it reads again", refuses=False),
    Rule("mode", lambda v: v == "standard", "there is one mode", refuses=False),
)
TEXT_RULES = (Rule("verbosity", never, "the local models have no verbosity setting", refuses=False),)
COUNT_RULES = (Rule("personality", is_empty, "the local models have no personalities", refuses=False),)
COMPACT_RULES = (
    Rule("image", is_empty, "the local models read and write text only"),
    Rule(
        "service_tier",
        lambda v: v in ("auto", "default"),
        "a summary is written as any request",
        refuses=False,
    ),
    *CACHE_RULES,
)
TOOL_RULES = (
    Rule("output_schema", is_empty, "what a function answers is not checked", refuses=False),
    Rule("allowed_callers", lambda v: v == ["direct"], "functions are called by the model itself only"),
    Rule("defer_loading", is_empty, "all tools are shown to the model at once", refuses=False),
    Rule("is_async", is_empty, "functions are answered before the model goes on", wire="async"),
    Rule("server_description", is_empty, "the server's own words are used", refuses=False),
    *(
        Rule(name, is_empty, "MCP servers are the operator's to name (tools.servers)")
        for name in ("server_url", "connector_id", "tunnel_id", "authorization", "headers")
    ),
)
# What a tool of each type has, beside what the rules say of all.
TOOL_FIELDS = {
    "function": frozenset({"name", "description", "parameters", "strict"}),
    "file_search": frozenset({"vector_store_ids", "filters", "max_num_results", "ranking_options"}),
    "mcp": frozenset({"server_label", "allowed_tools", "require_approval"}),
}
OWN_FIELDS = frozenset().union(*TOOL_FIELDS.values())
RANKING_RULES = (Rule("hybrid_search", is_empty, "every search is one for words and meaning, evenly"),)
STREAM_RULES = (Rule("include_obfuscation", is_empty, "events are not padded", refuses=False),)
PART_RULES = tuple(
    Rule(name, is_empty, "the local models read text only")
    for name in ("image_url", "file_id", "file_data", "file_url", "filename", "input_audio")
)
ITEM_RULES = (Rule("namespace", is_empty, "tools have no namespaces here"),)


def check_create(request: CreateResponse) -> list[str]:
    """The warnings for what is ignored. Raises UnsupportedParameter for what is refused."""
    warnings = [*apply(request, CREATE_RULES), *check_context(request)]
    if request.stream_options is not None and not request.stream:
        raise UnsupportedParameter("stream_options needs `stream: true`", param="stream_options")
    if request.stream_options is not None:
        warnings += apply(request.stream_options, STREAM_RULES, "stream_options.")
    if request.background and request.store is False:
        raise InvalidValue("a background response is kept: `store` cannot be false", param="store")
    return warnings + check_include(request.include or [])


def check_context(request: CreateResponse | CountInputTokens) -> list[str]:
    """Of what decides the prompt."""
    warnings: list[str] = []
    if request.reasoning is not None:
        warnings += apply(request.reasoning, REASONING_RULES, "reasoning.")
    if request.text is not None:
        warnings += apply(request.text, TEXT_RULES, "text.")
    if request.previous_response_id is not None and request.conversation is not None:
        raise InvalidValue(
            "previous_response_id and conversation both say what came before: give one of them",
            param="conversation",
        )
    for index, tool in enumerate(request.tools or ()):
        warnings += check_tool(tool, f"tools[{index}]")
    return warnings


def check_tool(tool: ToolEntry, path: str) -> list[str]:
    """Also raises UnsupportedParameter for what belongs to tools of another type."""
    if tool.type in TOOL_FIELDS:
        for name in OWN_FIELDS - TOOL_FIELDS[tool.type]:
            if getattr(tool, name) is not None:
                raise UnsupportedParameter(
                    f"{path}.{name} is nothing that a tool of type {tool.type} has", param=f"{path}.{name}"
                )
    if tool.ranking_options is not None:
        list(apply(tool.ranking_options, RANKING_RULES, f"{path}.ranking_options."))
    return list(apply(tool, TOOL_RULES, f"{path}."))


def check_count(request: CountInputTokens) -> list[str]:
    return list(apply(request, COUNT_RULES))


def check_compact(request: CompactResponse) -> list[str]:
    return list(apply(request, COMPACT_RULES))


def check_include(wanted: list[str]) -> list[str]:
    for index, name in enumerate(wanted):
        if name not in INCLUDABLE and name not in FRUITLESS:
            raise InvalidValue(
                f"include[{index}] is {name!r}; it may be {', '.join(INCLUDABLE)}", param=f"include[{index}]"
            )
    return [
        f"include {name!r} is ignored: there are no such items here" for name in wanted if name in FRUITLESS
    ]


def check_item(item: Item, path: str) -> None:
    list(apply(item, ITEM_RULES, f"{path}."))


def check_part(part: Part, path: str) -> None:
    list(apply(part, PART_RULES, f"{path}."))
