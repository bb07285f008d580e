"""The request bodies of the OpenAI surface: names, types and bounds. Nothing outside `api/` sees these.

Every name that the surface knows is listed, those that this server refuses included (as `Refused`), so that
a refusal can say why instead of calling the name unknown. `parameters` holds the reasons.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from appliance.api.tool_schemas import (
    AnyFunctionChoice,
    AnyToolChoice,
    CallId,
    FunctionCall,
    Functions,
    ToolCalls,
    ToolName,
    Tools,
)

MAX_TOKENS = 16_777_216
MAX_MESSAGES = 4096
MAX_INPUTS = 2048
MAX_PROMPTS = 64

Refused = Any

ModelName = Annotated[str, Meta(min_length=1, max_length=256)]
Count = Annotated[int, Meta(ge=1, le=MAX_TOKENS)]
TokenId = Annotated[int, Meta(ge=0, le=2**31 - 1)]
TokenIds = Annotated[list[TokenId], Meta(min_length=1, max_length=1_000_000)]
# Texts, or one text's token ids, or several texts' token ids; `inputs.inputs` tells them apart.
InputList = Annotated[list[str | TokenId | TokenIds], Meta(min_length=1, max_length=1_000_000)]
Temperature = Annotated[float, Meta(ge=0, le=2)]
Probability = Annotated[float, Meta(ge=0, le=1)]
TopP = Annotated[float, Meta(gt=0, le=1)]
TopK = Annotated[int, Meta(ge=0, le=1_000_000)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
RepeatPenalty = Annotated[float, Meta(gt=0, le=10)]
Choices = Annotated[int, Meta(ge=1, le=16)]
Seed = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
StopWord = Annotated[str, Meta(min_length=1, max_length=256)]
StopWords = StopWord | Annotated[list[StopWord], Meta(max_length=16)]
Bias = Annotated[float, Meta(ge=-100, le=100)]
TokenNumber = Annotated[str, Meta(pattern="^[0-9]{1,10}$")]  # JSON's keys are strings
LogitBias = Annotated[dict[TokenNumber, Bias], Meta(max_length=4096)]
Label = Annotated[str, Meta(max_length=512)]
Metadata = Annotated[dict[str, Label], Meta(max_length=16)]
TemplateNumber = Annotated[int, Meta(ge=-(2**53), le=2**53)]
TemplateOptions = Annotated[dict[Label, bool | TemplateNumber | Label], Meta(max_length=16)]
Pattern = Annotated[str, Meta(min_length=1, max_length=65_536)]
ReasoningEffort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
Deadline = Annotated[float, Meta(gt=0, le=86_400)]
KeepAlive = Annotated[float, Meta(ge=-1, le=31_622_400)] | Annotated[str, Meta(max_length=40)]


class StreamOptions(Struct, forbid_unknown_fields=True, kw_only=True):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class ImageUrl(Struct, forbid_unknown_fields=True, kw_only=True):
    """`url`: `data:image/TYPE;base64,…`, or a web address, which the online model fetches, never we."""

    url: Annotated[str, Meta(min_length=1, pattern=r"^(data:image/[a-zA-Z0-9.+-]{1,64};base64,|https?://)")]
    detail: Literal["auto", "low", "high", "original"] | None = None


class ContentPart(Struct, forbid_unknown_fields=True, kw_only=True):
    """Text or a picture; other types are refused by name in `parameters`."""

    type: Annotated[str, Meta(max_length=64)]
    text: str | None = None
    image_url: ImageUrl | None = None
    input_audio: Refused = None
    file: Refused = None
    refusal: Refused = None
    cache_control: Refused = None
    prompt_cache_breakpoint: Refused = None


class ChatMessage(Struct, forbid_unknown_fields=True, kw_only=True):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | Annotated[list[ContentPart], Meta(max_length=1024)] | None = None
    name: Annotated[str, Meta(max_length=256)] | None = None
    tool_calls: ToolCalls | None = None
    tool_call_id: CallId | None = None
    function_call: FunctionCall | None = None
    refusal: Refused = None
    audio: Refused = None
    annotations: Refused = None
    reasoning_content: str | None = None


class JsonSchemaFormat(Struct, forbid_unknown_fields=True, kw_only=True):
    """`strict` changes nothing: a schema is always held to, or refused."""

    name: ToolName
    description: Annotated[str, Meta(max_length=4096)] | None = None
    schema: dict[str, Any] | bool = {}
    strict: bool | None = None


class ResponseFormat(Struct, forbid_unknown_fields=True, kw_only=True):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchemaFormat | None = None


class SamplingFields(Struct, forbid_unknown_fields=True, kw_only=True):
    """What chat and text completions share."""

    model: ModelName
    max_tokens: Count | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    top_k: TopK | None = None
    min_p: Probability | None = None
    n: Choices | None = None
    stop: StopWords | None = None
    seed: Seed | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repeat_penalty: RepeatPenalty | None = None
    logit_bias: LogitBias | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: Label | None = None
    ignore_eos: bool | None = None
    deterministic: bool | None = None
    timeout: Deadline | None = None
    regex: Pattern | None = None
    grammar: Pattern | None = None
    keep_alive: KeepAlive | None = None  # ours: how long the model stays in memory, unused, afterwards


class ChatRequest(SamplingFields, forbid_unknown_fields=True, kw_only=True):
    messages: Annotated[list[ChatMessage], Meta(min_length=1, max_length=MAX_MESSAGES)]
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    chat_template_kwargs: TemplateOptions | None = None
    tools: Tools | None = None
    tool_choice: AnyToolChoice | None = None
    parallel_tool_calls: bool | None = None
    functions: Functions | None = None
    function_call: AnyFunctionChoice | None = None
    response_format: ResponseFormat | None = None
    modalities: Annotated[list[Annotated[str, Meta(max_length=32)]], Meta(max_length=8)] | None = None
    audio: Refused = None
    moderation: Refused = None
    web_search_options: Refused = None
    prediction: Refused = None
    reasoning_effort: ReasoningEffort | None = None
    verbosity: Label | None = None
    prompt_cache_key: Label | None = None
    prompt_cache_options: Refused = None
    prompt_cache_retention: Label | None = None
    service_tier: Label | None = None
    store: bool | None = None
    metadata: Metadata | None = None
    safety_identifier: Label | None = None
    continue_final_message: bool | None = None  # the last message is the answer's beginning
    knowledge: Label | None = None  # ours: the knowledge base to answer from, by name or id


class CompletionRequest(SamplingFields, forbid_unknown_fields=True, kw_only=True):
    prompt: str | InputList
    logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    echo: bool | None = None
    best_of: Choices | None = None
    suffix: Refused = None


class EmbeddingRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    """`input_type` is ours: which of the model's prefixes to use, where it has two."""

    model: ModelName
    input: str | InputList
    dimensions: Annotated[int, Meta(ge=1, le=65_536)] | None = None
    encoding_format: Literal["float", "base64"] | None = None
    input_type: Literal["query", "passage"] | None = None
    user: Label | None = None


class DocumentText(Struct, forbid_unknown_fields=True, kw_only=True):
    text: str


class RerankRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    model: ModelName
    query: Annotated[str, Meta(min_length=1)]
    documents: Annotated[list[str | DocumentText], Meta(min_length=1, max_length=MAX_INPUTS)]
    top_n: Annotated[int, Meta(ge=1, le=MAX_INPUTS)] | None = None
    return_documents: bool | None = None
    user: Label | None = None
