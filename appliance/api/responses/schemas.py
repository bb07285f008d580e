"""The request bodies of /v1/responses and /v1/conversations: names, types and bounds.

Every name that the openai SDK types is listed, those that this server refuses included (`Refused`); `rules`
says what becomes of each.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from appliance.api.schemas import (
    MAX_MESSAGES,
    Count,
    Deadline,
    Label,
    Metadata,
    ModelName,
    Probability,
    ReasoningEffort,
    Refused,
    RepeatPenalty,
    Seed,
    Temperature,
    TemplateOptions,
    TopK,
    TopP,
)
from appliance.api.tool_schemas import MAX_TOOLS, ToolName

Id = Annotated[str, Meta(min_length=1, max_length=256)]
Kind = Annotated[str, Meta(max_length=64)]
ItemStatus = Literal["in_progress", "completed", "incomplete", "searching", "calling", "failed"]


class Part(Struct, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """A piece of an item's content. `type` decides which of the others it has."""

    type: Kind
    text: str | None = None
    refusal: str | None = None
    annotations: Any = None
    logprobs: Any = None
    image_url: Refused = None
    file_id: Refused = None
    file_data: Refused = None
    file_url: Refused = None
    filename: Refused = None
    detail: Refused = None
    input_audio: Refused = None
    prompt_cache_breakpoint: Refused = None
    parsed: Any = None


Parts = Annotated[list[Part], Meta(max_length=1024)]


class Item(Struct, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """One item of a conversation, of any type: what was said, called, answered, thought or searched.

    `type` may be left out of messages and of item references, as the SDK types it.
    """

    type: Kind | None = None
    id: Id | None = None
    role: Literal["user", "assistant", "system", "developer"] | None = None
    content: str | Parts | None = None
    status: ItemStatus | None = None
    phase: Label | None = None
    call_id: Id | None = None
    name: Label | None = None
    arguments: str | None = None
    output: str | Parts | None = None
    summary: Parts | None = None
    encrypted_content: str | None = None
    queries: list[str] | None = None
    results: Any = None
    created_by: Any = None
    caller: Any = None
    namespace: Refused = None
    is_async: Any = field(name="async", default=None)
    parsed_arguments: Any = None
    server_label: Label | None = None
    tools: Any = None
    error: Any = None
    approval_request_id: Id | None = None
    approve: bool | None = None
    reason: Annotated[str, Meta(max_length=4096)] | None = None


Items = Annotated[list[Item], Meta(max_length=MAX_MESSAGES)]


class RankingOptions(Struct, forbid_unknown_fields=True, kw_only=True):
    ranker: Annotated[str, Meta(max_length=64)] | None = None
    score_threshold: Annotated[float, Meta(ge=0, le=1)] | None = None
    hybrid_search: Refused = None


class ToolFilter(Struct, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """Some of an MCP server's tools."""

    tool_names: Annotated[list[Label], Meta(max_length=MAX_TOOLS)] | None = None
    read_only: bool | None = None


class ApprovalFilters(Struct, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    always: ToolFilter | None = None
    never: ToolFilter | None = None


class ToolEntry(Struct, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """A function, a search in knowledge bases, or tools that this server runs. `type` decides which fields it
    has."""

    type: Kind
    name: ToolName | None = None
    description: Annotated[str, Meta(max_length=16_384)] | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    output_schema: Refused = None
    allowed_callers: Refused = None
    defer_loading: Refused = None
    is_async: Refused = field(name="async", default=None)
    vector_store_ids: Annotated[list[Id], Meta(min_length=1, max_length=8)] | None = None
    filters: Any = None
    max_num_results: Annotated[int, Meta(ge=1, le=50)] | None = None
    ranking_options: RankingOptions | None = None
    server_label: Label | None = None
    server_description: Refused = None
    server_url: Refused = None
    connector_id: Refused = None
    tunnel_id: Refused = None
    authorization: Refused = None
    headers: Refused = None
    allowed_tools: Annotated[list[Label], Meta(max_length=MAX_TOOLS)] | ToolFilter | None = None
    require_approval: Literal["always", "never"] | ApprovalFilters | None = None


class AllowedTool(Struct, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    type: Kind
    name: ToolName | None = None
    server_label: Label | None = None


class ToolChoiceEntry(Struct, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    type: Kind
    name: ToolName | None = None
    server_label: Label | None = None
    mode: Literal["auto", "required"] | None = None
    tools: Annotated[list[AllowedTool], Meta(min_length=1, max_length=MAX_TOOLS)] | None = None


class TextFormat(Struct, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """`strict` changes nothing: a schema is always held to, or refused."""

    type: Literal["text", "json_object", "json_schema"]
    name: ToolName | None = None
    description: Annotated[str, Meta(max_length=4096)] | None = None
    schema: dict[str, Any] | bool | None = None
    strict: bool | None = None


class TextOptions(Struct, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    format: TextFormat | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class Reasoning(Struct, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    effort: ReasoningEffort | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None
    context: Literal["auto", "current_turn", "all_turns"] | None = None
    mode: Label | None = None


class ConversationReference(Struct, forbid_unknown_fields=True, kw_only=True):
    id: Id


class ContextManagement(Struct, forbid_unknown_fields=True, kw_only=True):
    type: Literal["compaction"]
    compact_threshold: Annotated[int, Meta(ge=256, le=16_777_216)] | None = None


class StreamOptions(Struct, forbid_unknown_fields=True, kw_only=True):
    include_obfuscation: bool | None = None


class ContextFields(Struct, forbid_unknown_fields=True, kw_only=True):
    """What decides the prompt: shared by answering and by counting its tokens."""

    model: ModelName
    input: str | Items | None = None
    instructions: str | None = None
    previous_response_id: Id | None = None
    conversation: Id | ConversationReference | None = None
    tools: Annotated[list[ToolEntry], Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | ToolChoiceEntry | None = None
    parallel_tool_calls: bool | None = None
    text: TextOptions | None = None
    reasoning: Reasoning | None = None
    truncation: Literal["auto", "disabled"] | None = None


class CreateResponse(ContextFields, forbid_unknown_fields=True, kw_only=True):
    """The last row of fields is ours, as chat has them."""

    background: bool | None = None
    context_management: Annotated[list[ContextManagement], Meta(max_length=4)] | None = None
    include: Annotated[list[Label], Meta(max_length=16)] | None = None
    max_output_tokens: Count | None = None
    max_tool_calls: Annotated[int, Meta(ge=1, le=1024)] | None = None
    metadata: Metadata | None = None
    store: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Temperature | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    top_p: TopP | None = None
    prompt: Refused = None
    access_programs: Refused = None
    image: Refused = None
    moderation: Refused = None
    prompt_cache_key: Label | None = None
    prompt_cache_options: Refused = None
    prompt_cache_retention: Label | None = None
    safety_identifier: Label | None = None
    service_tier: Label | None = None
    user: Label | None = None
    top_k: TopK | None = None
    min_p: Probability | None = None
    repeat_penalty: RepeatPenalty | None = None
    seed: Seed | None = None
    timeout: Deadline | None = None
    chat_template_kwargs: TemplateOptions | None = None


class CountInputTokens(ContextFields, forbid_unknown_fields=True, kw_only=True):
    personality: Refused = None


class CompactResponse(Struct, forbid_unknown_fields=True, kw_only=True):
    model: ModelName
    input: str | Items | None = None
    instructions: str | None = None
    previous_response_id: Id | None = None
    image: Refused = None
    prompt_cache_key: Label | None = None
    prompt_cache_options: Refused = None
    prompt_cache_retention: Label | None = None
    service_tier: Label | None = None


class CreateConversation(Struct, forbid_unknown_fields=True, kw_only=True):
    items: Items | None = None
    metadata: Metadata | None = None


class UpdateMetadata(Struct, forbid_unknown_fields=True, kw_only=True):
    metadata: Metadata | None


class CreateItems(Struct, forbid_unknown_fields=True, kw_only=True):
    items: Annotated[list[Item], Meta(min_length=1, max_length=256)]


class ItemsQuery(Struct, kw_only=True):
    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    order: Literal["asc", "desc"] = "desc"
    after: Id | None = None


class RetrieveQuery(Struct, kw_only=True):
    """`include` comes as `include[]`, several times; see `endpoints`."""

    stream: bool | None = None
    starting_after: Annotated[int, Meta(ge=0, le=2**53)] | None = None
    include_obfuscation: bool | None = None
