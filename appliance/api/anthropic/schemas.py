"""The request bodies of /v1/messages: names, types and bounds, and what becomes of what is not served."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from appliance.api.rules import Rule, is_empty, never
from appliance.api.schemas import MAX_MESSAGES, Count, Deadline, Label, ModelName, Probability, Refused, TopK
from appliance.api.tool_schemas import MAX_TOOLS, CallId, ToolName

StopSequence = Annotated[str, Meta(min_length=1, max_length=256)]


class Block(Struct, forbid_unknown_fields=True, kw_only=True):
    """A piece of a message's content. `type` decides which of the others it has."""

    type: Annotated[str, Meta(max_length=64)]
    text: str | None = None
    id: CallId | None = None
    name: ToolName | None = None
    input: dict[str, Any] | None = None
    tool_use_id: CallId | None = None
    content: Any = None
    is_error: bool | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    source: Refused = None
    title: Refused = None
    context: Refused = None
    citations: Refused = None
    cache_control: Any = None
    caller: Any = None
    toolset_name: Refused = None


Blocks = Annotated[list[Block], Meta(max_length=1024)]


class Turn(Struct, forbid_unknown_fields=True, kw_only=True):
    role: Literal["user", "assistant", "system"]
    content: str | Blocks


class ToolEntry(Struct, forbid_unknown_fields=True, kw_only=True):
    name: ToolName
    type: Annotated[str, Meta(max_length=64)] | None = None
    description: Annotated[str, Meta(max_length=16_384)] | None = None
    input_schema: dict[str, Any] | None = None
    strict: bool | None = None
    cache_control: Any = None
    allowed_callers: Refused = None
    defer_loading: Refused = None
    eager_input_streaming: Any = None
    input_examples: Refused = None


class ToolChoiceEntry(Struct, forbid_unknown_fields=True, kw_only=True):
    type: Literal["auto", "any", "tool", "none"]
    name: ToolName | None = None
    disable_parallel_tool_use: bool | None = None


class Thinking(Struct, forbid_unknown_fields=True, kw_only=True):
    type: Literal["enabled", "disabled", "adaptive", "between_tools"]
    budget_tokens: Annotated[int, Meta(ge=1, le=16_777_216)] | None = None
    display: Literal["summarized", "omitted"] | None = None


class JsonFormat(Struct, forbid_unknown_fields=True, kw_only=True):
    type: Literal["json_schema"]
    schema: dict[str, Any] | bool


class OutputConfig(Struct, forbid_unknown_fields=True, kw_only=True):
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: JsonFormat | None = None


class UserMetadata(Struct, forbid_unknown_fields=True, kw_only=True):
    user_id: Label | None = None


class PromptFields(Struct, forbid_unknown_fields=True, kw_only=True):
    """What decides the prompt: shared by answering and by counting its tokens."""

    model: ModelName
    messages: Annotated[list[Turn], Meta(min_length=1, max_length=MAX_MESSAGES)]
    system: str | Blocks | None = None
    tools: Annotated[list[ToolEntry], Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: ToolChoiceEntry | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    cache_control: Any = None
    speed: Label | None = None
    user_profile_id: Label | None = None
    workspace_id: Label | None = None


class CreateMessage(PromptFields, forbid_unknown_fields=True, kw_only=True):
    """`timeout` is ours: seconds that the answer may take."""

    max_tokens: Count
    stream: bool | None = None
    stop_sequences: Annotated[list[StopSequence], Meta(max_length=16)] | None = None
    temperature: Probability | None = None
    top_p: Probability | None = None
    top_k: TopK | None = None
    metadata: UserMetadata | None = None
    service_tier: Literal["auto", "standard_only"] | None = None
    container: Refused = None
    context_management: Refused = None
    mcp_servers: Refused = None
    diagnostics: Refused = None
    inference_geo: Label | None = None
    timeout: Deadline | None = None


class CountTokens(PromptFields, forbid_unknown_fields=True, kw_only=True):
    pass


PROMPT_RULES = (
    Rule("speed", lambda v: v == "standard", "there is one speed", refuses=False),
    Rule("user_profile_id", never, "requests are not tracked by user", refuses=False),
    Rule("workspace_id", never, "there are no workspaces here", refuses=False),
)
MESSAGE_RULES = (
    *PROMPT_RULES,
    Rule("container", is_empty, "this server runs no code for its clients"),
    Rule("context_management", is_empty, "context is managed by the client: what is too long is refused"),
    Rule("mcp_servers", is_empty, "this server calls no other servers for its clients"),
    Rule("metadata", lambda v: v.user_id is None, "requests are not tracked by user", refuses=False),
    Rule("diagnostics", is_empty, "diagnostics are in this server's own headers and /metrics", refuses=False),
    Rule("inference_geo", never, "inference is where this server is", refuses=False),
)
TOOL_RULES = (
    Rule("allowed_callers", lambda v: v == ["direct"], "tools are called by the model itself only"),
    Rule("defer_loading", is_empty, "all tools are shown to the model at once", refuses=False),
    Rule("input_examples", is_empty, "put examples into the description", refuses=False),
)
THINKING_RULES = (
    Rule("budget_tokens", never, "the model itself decides how long it thinks", refuses=False),
    Rule("display", never, "the thinking itself is given", refuses=False),
)
BLOCK_RULES = (
    *(Rule(name, is_empty, "the local models read text only") for name in ("source", "title", "context")),
    Rule("citations", is_empty, "citations are given by /v1/responses and knowledge bases", refuses=False),
    Rule("toolset_name", is_empty, "there are no toolsets here"),
)
