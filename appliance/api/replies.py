"""The response bodies of the OpenAI surface, as openai's own types read them, and ids for them."""

from __future__ import annotations

import secrets
from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from appliance.records import Citation, FinishReason, SchedulingClass, TokenLogprob, Usage
from appliance.routing.request import Route


def new_id(prefix: str) -> str:
    """An unguessable id such as `chatcmpl-…`."""
    return f"{prefix}-{secrets.token_hex(12)}"


class PromptDetails(Struct, kw_only=True):
    cached_tokens: int = 0
    audio_tokens: int = 0


class CompletionDetails(Struct, kw_only=True):
    reasoning_tokens: int = 0
    audio_tokens: int = 0
    accepted_prediction_tokens: int = 0
    rejected_prediction_tokens: int = 0


class AttemptBody(Struct, kw_only=True):
    """`outcome`: ok, left, or the kind of failure."""

    platform: str
    model: str
    outcome: str
    seconds: float


class ContinuationBody(Struct, kw_only=True):
    """The answer was cut after so many characters, and `model` went on."""

    characters: int
    model: str


class RouteBody(Struct, kw_only=True):
    """Ours: who answered and why, as the headers `x-hearth-…` say it."""

    route: Literal["local", "online"]
    model: str
    platform: str
    policy: str
    reason: str
    attempts: list[AttemptBody]
    continuations: list[ContinuationBody]
    cost: float
    arm: str | UnsetType = UNSET


def route_body(route: Route) -> RouteBody:
    return RouteBody(
        route="local" if route.is_local else "online",
        model=route.model,
        platform=route.platform,
        policy=route.policy,
        reason=route.reason,
        attempts=[
            AttemptBody(platform=a.platform, model=a.model, outcome=a.outcome, seconds=round(a.seconds, 6))
            for a in route.attempts
        ],
        continuations=[ContinuationBody(characters=c.characters, model=c.model) for c in route.continuations],
        cost=route.cost,
        arm=route.arm or UNSET,
    )


class UsageBody(Struct, kw_only=True):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens_details: CompletionDetails
    hearth: RouteBody | UnsetType = UNSET


def usage_body(usage: Usage, route: Route | None = None) -> UsageBody:
    return UsageBody(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        total_tokens=usage.prompt_tokens + usage.completion_tokens,
        prompt_tokens_details=PromptDetails(cached_tokens=usage.cached_tokens),
        completion_tokens_details=CompletionDetails(reasoning_tokens=usage.reasoning_tokens),
        hearth=UNSET if route is None else route_body(route),
    )


class TimingsBody(Struct, kw_only=True):
    """Ours: where the time went, in seconds."""

    queued: float
    prefill: float
    decode: float


# Chat

ChatFinishReason = FinishReason | Literal["function_call"]


class TopLogprob(Struct, kw_only=True):
    token: str
    bytes: list[int]
    logprob: float


class ContentLogprob(TopLogprob, kw_only=True):
    top_logprobs: list[TopLogprob]


class ChatLogprobs(Struct, kw_only=True):
    content: list[ContentLogprob]
    refusal: None = None


def content_logprob(found: TokenLogprob) -> ContentLogprob:
    return ContentLogprob(
        token=found.raw.decode(errors="replace"),
        bytes=list(found.raw),
        logprob=found.logprob,
        top_logprobs=[
            TopLogprob(token=rival.raw.decode(errors="replace"), bytes=list(rival.raw), logprob=rival.logprob)
            for rival in found.top
        ],
    )


class CalledFunction(Struct, kw_only=True):
    name: str
    arguments: str


class CalledTool(Struct, kw_only=True):
    id: str
    type: Literal["function"] = "function"
    function: CalledFunction


class CitationAnnotation(Struct, kw_only=True):
    """Ours: OpenAI's chat completions only know citations of URLs."""

    type: Literal["file_citation"] = "file_citation"
    file_citation: Citation


class AssistantMessage(Struct, kw_only=True):
    """`content` is null where there are only calls; `function_call` is the deprecated form of one call."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: None = None
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[CalledTool] | UnsetType = UNSET
    function_call: CalledFunction | UnsetType = UNSET
    annotations: list[CitationAnnotation] | UnsetType = UNSET


class ChatChoice(Struct, kw_only=True):
    index: int
    message: AssistantMessage
    logprobs: ChatLogprobs | None
    finish_reason: ChatFinishReason


class ChatCompletion(Struct, kw_only=True):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: UsageBody
    service_tier: SchedulingClass | UnsetType = UNSET
    system_fingerprint: str | None = None
    timings: TimingsBody
    warnings: list[str]


class FunctionPiece(Struct, kw_only=True, omit_defaults=True):
    name: str | None = None
    arguments: str | UnsetType = UNSET


class ToolPiece(Struct, kw_only=True, omit_defaults=True):
    """A piece of the call `index`: its id, type and name with the first one, arguments as they grow."""

    index: int
    id: str | None = None
    type: str | None = None
    function: FunctionPiece


class ChatDelta(Struct, kw_only=True, omit_defaults=True):
    role: Literal["assistant"] | None = None
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolPiece] | None = None
    function_call: FunctionPiece | None = None
    annotations: list[CitationAnnotation] | None = None


class ChatChunkChoice(Struct, kw_only=True):
    index: int
    delta: ChatDelta
    logprobs: ChatLogprobs | None = None
    finish_reason: ChatFinishReason | None = None


class ChatChunk(Struct, kw_only=True, omit_defaults=True):
    id: str
    object: str
    created: int
    model: str
    choices: list[ChatChunkChoice]
    service_tier: SchedulingClass | UnsetType = UNSET
    system_fingerprint: str | None = None
    usage: UsageBody | None = None
    timings: TimingsBody | None = None
    warnings: list[str] | None = None


# Text completions


class TextLogprobs(Struct, kw_only=True):
    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class TextChoice(Struct, kw_only=True):
    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: FinishReason | None


class TextCompletion(Struct, kw_only=True):
    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[TextChoice]
    usage: UsageBody
    system_fingerprint: str | None = None
    timings: TimingsBody
    warnings: list[str]


class TextChunk(Struct, kw_only=True, omit_defaults=True):
    id: str
    object: str
    created: int
    model: str
    choices: list[TextChoice]
    system_fingerprint: str | None = None
    usage: UsageBody | None = None
    timings: TimingsBody | None = None


# Embeddings and rerank


class Embedding(Struct, kw_only=True):
    """`embedding` is a list of floats, or base64 of little-endian float32."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class TokenUsage(Struct, kw_only=True):
    prompt_tokens: int
    total_tokens: int


class EmbeddingList(Struct, kw_only=True):
    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: TokenUsage
    warnings: list[str]


class RankedDocument(Struct, kw_only=True):
    text: str


class RankedResult(Struct, kw_only=True, omit_defaults=True):
    """`relevance_score` is the logistic function of `logit`, the model's raw answer."""

    index: int
    relevance_score: float
    logit: float
    document: RankedDocument | None = None


class Ranking(Struct, kw_only=True):
    id: str
    object: Literal["list"] = "list"
    model: str
    results: list[RankedResult]
    usage: TokenUsage
    warnings: list[str]


# Models


class ModelCard(Struct, kw_only=True):
    """OpenAI's four fields, then ours: what the model is for and whether it can be used now."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    role: str
    state: str
    context_length: int
    dimensions: int
    languages: list[str]
    licence: str
    route: Literal["local", "online"] = "local"
    alias_of: list[str] | UnsetType = UNSET  # the models of which one answers under this name


class ModelList(Struct, kw_only=True):
    object: Literal["list"] = "list"
    data: list[ModelCard]
