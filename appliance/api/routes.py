"""Every path that this server answers: the one list behind the router, the OpenAPI document and the tests."""

from __future__ import annotations

from appliance.api import (
    chat,
    completions,
    embeddings,
    health,
    models,
    replies,
    rerank,
    schemas,
    stored_chats,
)
from appliance.api.admin_routes import ADMIN_OPERATIONS
from appliance.api.admin_stock import STOCK_OPERATIONS
from appliance.api.anthropic.endpoints import ANTHROPIC_OPERATIONS
from appliance.api.audit import AUDIT_OPERATIONS
from appliance.api.backups import BACKUP_OPERATIONS
from appliance.api.batches.endpoints import BATCH_OPERATIONS
from appliance.api.configuration import CONFIG_OPERATIONS
from appliance.api.defacto.operations import DEFACTO_OPERATIONS
from appliance.api.doctor import DOCTOR_OPERATIONS
from appliance.api.errors import ErrorReply
from appliance.api.keys import KEY_OPERATIONS
from appliance.api.knowledge_routes import KNOWLEDGE_OPERATIONS
from appliance.api.ollama.operations import OLLAMA_OPERATIONS
from appliance.api.operation import Operation
from appliance.api.responses.operations import RESPONSE_OPERATIONS
from appliance.api.routing import ROUTING_OPERATIONS
from appliance.api.uploads import UPLOAD_OPERATIONS
from appliance.api.watching import WATCHING_OPERATIONS

READING = (404,)
KEEPING = (400, 404, 413, 429, 503, 507)
STORED_CHAT = "/v1/chat/completions/{completion_id}"
GENERATING = (400, 404, 408, 413, 429, 499, 500, 503, 504)


OPERATIONS = (
    Operation(
        "POST",
        "/v1/chat/completions",
        chat.create_chat_completion,
        "Answer a conversation",
        replies.ChatCompletion,
        schemas.ChatRequest,
        GENERATING,
        streams=True,
        access="reader",
    ),
    Operation(
        "GET",
        "/v1/chat/completions",
        stored_chats.list_chat_completions,
        "The kept answers",
        stored_chats.StoredList,
        errors=(400, 503),
        query=stored_chats.ListChatsQuery,
        access="user",
    ),
    Operation(
        "GET",
        STORED_CHAT,
        stored_chats.get_chat_completion,
        "One kept answer",
        replies.ChatCompletion,
        errors=KEEPING,
        access="user",
    ),
    Operation(
        "POST",
        STORED_CHAT,
        stored_chats.update_chat_completion,
        "Change a kept answer's metadata",
        replies.ChatCompletion,
        stored_chats.UpdateChat,
        KEEPING,
        access="user",
    ),
    Operation(
        "DELETE",
        STORED_CHAT,
        stored_chats.delete_chat_completion,
        "Delete a kept answer",
        stored_chats.DeletedChat,
        errors=KEEPING,
        access="user",
    ),
    Operation(
        "GET",
        STORED_CHAT + "/messages",
        stored_chats.list_chat_completion_messages,
        "What a kept answer was asked",
        stored_chats.StoredList,
        errors=KEEPING,
        query=stored_chats.ListMessagesQuery,
        access="user",
    ),
    Operation(
        "POST",
        "/v1/completions",
        completions.create_completion,
        "Continue text or token ids",
        replies.TextCompletion,
        schemas.CompletionRequest,
        GENERATING,
        streams=True,
        access="reader",
    ),
    Operation(
        "POST",
        "/v1/embeddings",
        embeddings.create_embeddings,
        "Turn texts into vectors",
        replies.EmbeddingList,
        schemas.EmbeddingRequest,
        GENERATING,
        access="reader",
    ),
    Operation(
        "POST",
        "/v1/rerank",
        rerank.create_ranking,
        "Order documents by how well they answer a query",
        replies.Ranking,
        schemas.RerankRequest,
        GENERATING,
        access="reader",
    ),
    *DEFACTO_OPERATIONS,
    Operation(
        "GET", "/v1/models", models.list_models, "The models served here", replies.ModelList, access="reader"
    ),
    Operation(
        "GET",
        "/v1/models/{model}",
        models.get_model,
        "One model",
        replies.ModelCard,
        errors=READING,
        access="reader",
    ),
    *RESPONSE_OPERATIONS,
    *BATCH_OPERATIONS,
    *UPLOAD_OPERATIONS,
    *ANTHROPIC_OPERATIONS,
    *OLLAMA_OPERATIONS,
    *KNOWLEDGE_OPERATIONS,
    *CONFIG_OPERATIONS,
    *ROUTING_OPERATIONS,
    *ADMIN_OPERATIONS,
    *STOCK_OPERATIONS,
    *KEY_OPERATIONS,
    *DOCTOR_OPERATIONS,
    *AUDIT_OPERATIONS,
    *BACKUP_OPERATIONS,
    *WATCHING_OPERATIONS,
    Operation(
        "GET", "/healthz", health.get_health, "Whether the server lives", health.Health, access="public"
    ),
    Operation(
        "GET",
        "/readyz",
        health.get_readiness,
        "Whether every model answers",
        health.Readiness,
        extra_replies=((503, health.Readiness),),
        access="public",
    ),
    Operation("GET", "/version", health.get_version, "This build's version", health.Version, access="reader"),
    Operation(
        "GET", "/metrics", health.get_metrics, "Figures for Prometheus", "text/plain", access="operator"
    ),
)

ERROR_REPLY = ErrorReply
