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

from appliance.api import knowledge_schemas as knowledge
from appliance.api import parameters, schemas, sharing, stored_chats, tool_schemas, uploads
from appliance.api.anthropic import schemas as anthropic
from appliance.api.batches import records as batches
from appliance.api.defacto import schemas as defacto
from appliance.api.ollama import schemas as ollama
from appliance.api.responses import rules as response_rules
from appliance.api.responses import schemas as responses
from appliance.api.rules import USER_RULES, Rule

Verdict = Literal["served", "mapped", "ignored", "accepted", "refused"]
STORED_CHAT = "/v1/chat/completions/{completion_id}"
STORE = "/v1/vector_stores/{vector_store_id}"
READ = ("filters", "content", "file")  # typed loosely because other code reads them
NO_EFFECT = "it changes nothing about the answer"


class Surface(NamedTuple):
    """A request of one path. `prefix` of the names, for what stands inside a parameter; `without_effect`:
    what is read and perhaps kept, and decides nothing."""

    path: str
    kind: type[msgspec.Struct]
    rules: Sequence[Rule] = ()
    notes: Mapping[str, str] = MappingProxyType({})
    prefix: str = ""
    without_effect: Sequence[str] = ()


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
    Surface("/v1/chat/completions", schemas.StreamOptions, parameters.STREAM_RULES, {}, "stream_options."),
    Surface(
        "/v1/chat/completions",
        schemas.ResponseFormat,
        (),
        {"json_schema": "its schema is always held to, or refused; `strict` changes nothing"},
        "response_format.",
    ),
    Surface(
        "/v1/chat/completions",
        tool_schemas.FunctionDefinition,
        (),
        {},
        "tools[].function.",
    ),
    Surface("/v1/chat/completions", schemas.ChatMessage, parameters.MESSAGE_RULES, {}, "messages[]."),
    Surface(
        "/v1/chat/completions",
        schemas.ContentPart,
        parameters.PART_RULES,
        {"image_url": "for online models with the capability vision; no local one sees"},
        "messages[].content[].",
    ),
    Surface(STORED_CHAT, stored_chats.UpdateChat),
    Surface("/v1/completions", schemas.CompletionRequest, parameters.COMPLETION_RULES),
    Surface(
        "/v1/embeddings",
        schemas.EmbeddingRequest,
        USER_RULES,
        {"input_type": "ours: which of the model's prefixes is put in front, query or passage"},
    ),
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
    Surface("/v1/responses", responses.StreamOptions, response_rules.STREAM_RULES, {}, "stream_options."),
    Surface("/v1/responses", responses.ToolEntry, response_rules.TOOL_RULES, {}, "tools[]."),
    Surface(
        "/v1/responses",
        responses.RankingOptions,
        response_rules.RANKING_RULES,
        {},
        "tools[].ranking_options.",
    ),
    Surface(
        "/v1/responses",
        responses.Item,
        response_rules.ITEM_RULES,
        {},
        "input[].",
        ("status", "phase", "queries"),
    ),
    Surface("/v1/responses", responses.Part, response_rules.PART_RULES, {}, "input[].content[]."),
    Surface("/v1/responses/input_tokens", responses.CountInputTokens, response_rules.COUNT_RULES),
    Surface("/v1/responses/compact", responses.CompactResponse, response_rules.COMPACT_RULES),
    Surface("/v1/conversations", responses.CreateConversation),
    Surface("/v1/conversations/{conversation_id}", responses.UpdateMetadata),
    Surface("/v1/conversations/{conversation_id}/items", responses.CreateItems),
    Surface("/v1/files", knowledge.UploadForm),
    Surface("/v1/uploads", uploads.CreateUpload),
    Surface("/v1/uploads/{upload_id}/parts", uploads.PartForm),
    Surface("/v1/uploads/{upload_id}/complete", uploads.CompleteUpload),
    Surface(
        "/v1/vector_stores",
        knowledge.CreateVectorStore,
        (),
        {"embedder": "ours: the embedding model, the server's own by default"},
    ),
    Surface(STORE, knowledge.UpdateVectorStore),
    Surface(
        STORE + "/search",
        knowledge.SearchVectorStore,
        knowledge.SEARCH_RULES,
        {"timings": "ours: tells what each stage took"},
    ),
    Surface(
        STORE + "/readers", sharing.ShareWith, (), {"readers": "ours: names or ids of keys, owners, or `*`"}
    ),
    Surface(STORE + "/reindex", knowledge.ReindexVectorStore, (), {"embedder": "ours: another one"}),
    Surface(STORE + "/folders", knowledge.WatchFolder, (), {"path": "ours: a folder of the server's"}),
    Surface(STORE + "/files", knowledge.AttachFile),
    Surface(STORE + "/files/{file_id}", knowledge.UpdateAttributes),
    Surface(STORE + "/file_batches", knowledge.CreateFileBatch),
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
            "service_tier": "both are this server's default class",
        },
    ),
    Surface("/v1/messages", anthropic.Thinking, anthropic.THINKING_RULES, {}, "thinking."),
    Surface("/v1/messages", anthropic.ToolEntry, anthropic.TOOL_RULES, {}, "tools[]."),
    Surface(
        "/v1/messages",
        anthropic.Block,
        anthropic.BLOCK_RULES,
        {},
        "messages[].content[].",
        ("signature", "data"),
    ),
    Surface(
        "/v1/messages/count_tokens",
        anthropic.CountTokens,
        anthropic.PROMPT_RULES,
        {
            "cache_control": "prompts are always cached",
            "thinking": "becomes what the model's chat template knows of it",
            "output_config": "effort becomes what the model's chat template knows of it",
        },
    ),
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
    Surface("/api/show", ollama.ShowRequest, ollama.SHOW_RULES, {"name": "the older name of model"}),
    Surface("/v1/rerank", schemas.RerankRequest, USER_RULES),
    Surface("/v2/rerank", defacto.CohereRequest, defacto.COHERE_RULES),
    Surface("/rerank", defacto.AnyRerankRequest, defacto.RERANK_RULES),
    Surface("/v1/score", defacto.ScoreRequest, defacto.SCORE_RULES),
    Surface("/tokenize", defacto.TokenizeRequest, defacto.TOKENIZE_RULES),
    Surface("/detokenize", defacto.DetokenizeRequest),
    Surface("/apply-template", defacto.TemplateRequest),
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
            elif field.name in surface.without_effect or (
                hints[field.name] is Any and field.name not in READ
            ):
                yield Entry(surface.path, name, "accepted", NO_EFFECT)
            else:
                yield Entry(surface.path, name, "served", "")
