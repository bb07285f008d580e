"""What /v1/responses answers: the response object, the items of its output, lists of items."""

from __future__ import annotations

import secrets
from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

from appliance.api.replies import ContentLogprob
from appliance.records import Usage

ResponseStatus = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]
ItemStatus = Literal["in_progress", "completed", "incomplete"]


def new_id(prefix: str) -> str:
    """An unguessable id such as `resp_…`."""
    return f"{prefix}_{secrets.token_hex(16)}"


class FileCitation(Struct, kw_only=True):
    """`index`: where in the text the citation's mark begins."""

    type: Literal["file_citation"] = "file_citation"
    index: int
    file_id: str
    filename: str
    quote: str
    page: int


class OutputText(Struct, kw_only=True):
    type: Literal["output_text"] = "output_text"
    text: str = ""
    annotations: list[FileCitation] = []
    logprobs: list[ContentLogprob] = []


class ReasoningText(Struct, kw_only=True):
    type: Literal["reasoning_text"] = "reasoning_text"
    text: str = ""


class MessageItem(Struct, kw_only=True):
    id: str
    type: Literal["message"] = "message"
    role: Literal["assistant"] = "assistant"
    status: ItemStatus = "in_progress"
    content: list[OutputText] = []


class ReasoningItem(Struct, kw_only=True):
    """`encrypted_content`: the reasoning in a form that a stateless client may send back."""

    id: str
    type: Literal["reasoning"] = "reasoning"
    status: ItemStatus = "in_progress"
    summary: list[ReasoningText] = []
    content: list[ReasoningText] = []
    encrypted_content: str | UnsetType = UNSET


class FunctionCallItem(Struct, kw_only=True):
    id: str
    type: Literal["function_call"] = "function_call"
    status: ItemStatus = "in_progress"
    call_id: str
    name: str
    arguments: str = ""


class FileSearchResult(Struct, kw_only=True):
    file_id: str
    filename: str
    score: float
    text: str
    attributes: dict[str, str | float | bool]


class FileSearchItem(Struct, kw_only=True):
    id: str
    type: Literal["file_search_call"] = "file_search_call"
    status: Literal["in_progress", "searching", "completed"] = "in_progress"
    queries: list[str] = []
    results: list[FileSearchResult] | None = None


class CompactionItem(Struct, kw_only=True):
    id: str
    type: Literal["compaction"] = "compaction"
    encrypted_content: str


class ListedTool(Struct, kw_only=True):
    name: str
    description: str
    input_schema: dict[str, Any]
    annotations: dict[str, Any] | None = None


class ListToolsItem(Struct, kw_only=True):
    """What an MCP server offered."""

    id: str
    type: Literal["mcp_list_tools"] = "mcp_list_tools"
    server_label: str
    tools: list[ListedTool] = []
    error: str | None = None


class ServerCallItem(Struct, kw_only=True):
    """A call that this server runs: of a built-in tool, or an MCP server's. `error`: as the SDK types it."""

    id: str
    type: Literal["mcp_call"] = "mcp_call"
    status: Literal["in_progress", "calling", "completed", "incomplete", "failed"] = "in_progress"
    server_label: str
    name: str
    arguments: str = ""
    output: str | None = None
    error: dict[str, Any] | None = None
    approval_request_id: str | None = None


class ApprovalRequestItem(Struct, kw_only=True):
    """A call that is run when the client says so in its next request."""

    id: str
    type: Literal["mcp_approval_request"] = "mcp_approval_request"
    server_label: str
    name: str
    arguments: str = ""


OutputItem = (
    MessageItem
    | ReasoningItem
    | FunctionCallItem
    | FileSearchItem
    | CompactionItem
    | ListToolsItem
    | ServerCallItem
    | ApprovalRequestItem
)


class InputDetails(Struct, kw_only=True):
    cached_tokens: int = 0
    cache_write_tokens: int = 0


class OutputDetails(Struct, kw_only=True):
    reasoning_tokens: int = 0


class ResponseUsage(Struct, kw_only=True):
    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


def response_usage(usage: Usage) -> ResponseUsage:
    return ResponseUsage(
        input_tokens=usage.prompt_tokens,
        input_tokens_details=InputDetails(cached_tokens=usage.cached_tokens),
        output_tokens=usage.completion_tokens,
        output_tokens_details=OutputDetails(reasoning_tokens=usage.reasoning_tokens),
        total_tokens=usage.prompt_tokens + usage.completion_tokens,
    )


class ResponseError(Struct, kw_only=True):
    code: str
    message: str


class IncompleteDetails(Struct, kw_only=True):
    reason: Literal["max_output_tokens", "content_filter"]


class ConversationId(Struct, kw_only=True):
    id: str


class ResponseBody(Struct, kw_only=True):
    """`warnings` is ours. What a request said is given back as it was understood."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    completed_at: int | None = None
    status: ResponseStatus
    background: bool
    error: ResponseError | None = None
    incomplete_details: IncompleteDetails | None = None
    instructions: str | None
    max_output_tokens: int | None
    max_tool_calls: int | None
    model: str
    output: list[Any] = []
    parallel_tool_calls: bool
    previous_response_id: str | None
    conversation: ConversationId | None
    prompt_cache_key: str | None
    reasoning: dict[str, Any]
    safety_identifier: str | None
    service_tier: str
    store: bool
    temperature: float
    text: dict[str, Any]
    tool_choice: Any
    tools: list[Any]
    top_logprobs: int
    top_p: float
    truncation: Literal["auto", "disabled"]
    usage: ResponseUsage | None = None
    user: str | None
    metadata: dict[str, str]
    warnings: list[str] = []


class ItemList(Struct, kw_only=True):
    object: Literal["list"] = "list"
    data: list[Any]
    first_id: str | None
    last_id: str | None
    has_more: bool


class InputTokens(Struct, kw_only=True):
    object: Literal["response.input_tokens"] = "response.input_tokens"
    input_tokens: int


class CompactedResponse(Struct, kw_only=True):
    id: str
    object: Literal["response.compaction"] = "response.compaction"
    created_at: int
    output: list[Any]
    usage: ResponseUsage
    warnings: list[str] = []


class Conversation(Struct, kw_only=True):
    id: str
    object: Literal["conversation"] = "conversation"
    created_at: int
    metadata: dict[str, str]


class Deleted(Struct, kw_only=True):
    id: str
    object: str
    deleted: bool = True
