"""The one table of parameters: per surface and parameter, what becomes of it and why.

It is read off the very structs and rules that check requests, so it cannot say otherwise than what happens;
only the notes on how one surface's words become another's are written here. docs/PARAMETERS.md is made of it.
"""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import msgspec

from appliance.api import parameters, schemas
from appliance.api.anthropic import schemas as anthropic
from appliance.api.batches import records as batches
from appliance.api.defacto import schemas as defacto
from appliance.api.ollama import schemas as ollama
from appliance.api.responses import rules as response_rules
from appliance.api.responses import schemas as responses
from appliance.api.rules import Rule

Verdict = Literal["served", "mapped", "ignored", "accepted", "refused"]
READ = ("filters", "content")  # typed loosely because other code reads them


class Surface(NamedTuple):
    """A request of one path. `prefix` of the names, for what stands inside a parameter."""

    path: str
    kind: type[msgspec.Struct]
    rules: Sequence[Rule] = ()
    notes: Mapping[str, str] = MappingProxyType({})
    prefix: str = ""


class Entry(NamedTuple):
    """`note`: the reason, or what the parameter becomes."""

    path: str
    parameter: str
    verdict: Verdict
    note: str


SURFACES = (
    Surface(
        "/v1/chat/completions",
        schemas.ChatRequest,
        parameters.CHAT_RULES,
        {
            "max_tokens": "the older name of max_completion_tokens",
            "functions": "the older name of tools",
            "function_call": "the older name of tool_choice",
            "store": "the answer is kept, see /v1/chat/completions/{completion_id}",
            "metadata": "kept with the answer; ignored without `store`",
            "knowledge": "ours: the knowledge base to answer from",
            "reasoning_effort": "becomes what the model's chat template knows of it",
        },
    ),
    Surface("/v1/chat/completions", schemas.ChatMessage, parameters.MESSAGE_RULES, {}, "messages[]."),
    Surface(
        "/v1/chat/completions",
        schemas.ContentPart,
        parameters.PART_RULES,
        {"image_url": "for online models with the capability vision; no local one sees"},
        "messages[].content[].",
    ),
    Surface("/v1/completions", schemas.CompletionRequest, parameters.COMPLETION_RULES),
    Surface(
        "/v1/responses",
        responses.CreateResponse,
        response_rules.CREATE_RULES,
        {
            "instructions": "a system message in front; not carried over by previous_response_id",
            "truncation": "auto: the oldest turns are left out, and told of",
            "context_management": "beyond the threshold the conversation is summed up",
            "max_tool_calls": "of tools that the server runs; file_search is not counted",
            "include": "file_search_call.results, message.output_text.logprobs, reasoning.encrypted_content",
            "tools": "functions, file_search, and those that the server runs: calculator, local_http, mcp",
        },
    ),
    Surface("/v1/responses", responses.Reasoning, response_rules.REASONING_RULES, {}, "reasoning."),
    Surface("/v1/responses", responses.TextOptions, response_rules.TEXT_RULES, {}, "text."),
    Surface("/v1/responses", responses.ToolEntry, response_rules.TOOL_RULES, {}, "tools[]."),
    Surface("/v1/responses", responses.Item, response_rules.ITEM_RULES, {}, "input[]."),
    Surface("/v1/responses", responses.Part, response_rules.PART_RULES, {}, "input[].content[]."),
    Surface("/v1/responses/input_tokens", responses.CountInputTokens, response_rules.COUNT_RULES),
    Surface("/v1/responses/compact", responses.CompactResponse, response_rules.COMPACT_RULES),
    Surface("/v1/conversations", responses.CreateConversation),
    Surface("/v1/batches", batches.CreateBatch),
    Surface(
        "/v1/messages",
        anthropic.CreateMessage,
        anthropic.MESSAGE_RULES,
        {
            "system": "a system message in front",
            "stop_sequences": "chat's stop",
            "thinking": "chat's reasoning_effort: none, medium, or as the template has it",
            "output_config": "format: chat's response_format; effort: chat's reasoning_effort",
            "cache_control": "prompts are always cached",
        },
    ),
    Surface("/v1/messages", anthropic.ToolEntry, anthropic.TOOL_RULES, {}, "tools[]."),
    Surface("/v1/messages", anthropic.Block, anthropic.BLOCK_RULES, {}, "messages[].content[]."),
    Surface(
        "/api/chat",
        ollama.ChatRequest,
        (),
        {
            "stream": "on unless it is turned off",
            "format": "chat's response_format",
            "think": "chat's reasoning_effort: true is medium, false none",
        },
    ),
    Surface("/api/chat", ollama.ChatMessage, ollama.MESSAGE_RULES, {}, "messages[]."),
    Surface(
        "/api/chat and /api/generate",
        ollama.Options,
        ollama.OPTION_RULES,
        {"num_predict": "chat's max_completion_tokens; none below 1"},
        "options.",
    ),
    Surface(
        "/api/generate",
        ollama.GenerateRequest,
        ollama.GENERATE_RULES,
        {
            "system": "a system message in front",
            "raw": "the text as it stands, like /v1/completions",
            "format": "chat's response_format",
            "think": "chat's reasoning_effort: true is medium, false none",
        },
    ),
    Surface("/api/embed", ollama.EmbedRequest, ollama.EMBED_RULES),
    Surface("/api/embeddings", ollama.EmbeddingsRequest, ollama.EMBEDDINGS_RULES),
    Surface("/v2/rerank", defacto.CohereRequest, defacto.COHERE_RULES),
    Surface("/rerank", defacto.AnyRerankRequest, defacto.RERANK_RULES),
    Surface("/v1/score", defacto.ScoreRequest, defacto.SCORE_RULES),
    Surface("/tokenize", defacto.TokenizeRequest, defacto.TOKENIZE_RULES),
)


def entries() -> Iterator[Entry]:
    """Every parameter of every surface, in the order of the structs."""
    for surface in SURFACES:
        rules = {rule.parameter: rule for rule in surface.rules}
        hints = typing.get_type_hints(surface.kind)
        for field in msgspec.structs.fields(surface.kind):
            name = surface.prefix + field.encode_name
            rule = rules.get(field.name)
            if rule is not None:
                yield Entry(surface.path, name, "refused" if rule.refuses else "ignored", rule.reason)
            elif field.encode_name in surface.notes:
                yield Entry(surface.path, name, "mapped", surface.notes[field.encode_name])
            elif hints[field.name] is Any and field.name not in READ:
                yield Entry(surface.path, name, "accepted", "it changes nothing about the answer")
            else:
                yield Entry(surface.path, name, "served", "")
