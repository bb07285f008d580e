"""Every path that this server answers: the one list behind the router, the OpenAPI document and the tests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from appliance.api import chat, completions, embeddings, health, models, replies, rerank, schemas
from appliance.api.errors import ErrorReply

Handler = Callable[[Request], Awaitable[Response]]

READING = (404,)
GENERATING = (400, 404, 408, 413, 429, 499, 500, 503, 504)


class Operation(NamedTuple):
    """One method of one path. `reply` is a struct for JSON, or a media type for anything else."""

    method: str
    path: str
    handler: Handler
    summary: str
    reply: Any
    request: Any = None
    errors: tuple[int, ...] = ()
    extra_replies: tuple[tuple[int, Any], ...] = ()
    streams: bool = False


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
    ),
    Operation(
        "POST",
        "/v1/embeddings",
        embeddings.create_embeddings,
        "Turn texts into vectors",
        replies.EmbeddingList,
        schemas.EmbeddingRequest,
        GENERATING,
    ),
    Operation(
        "POST",
        "/v1/rerank",
        rerank.create_ranking,
        "Order documents by how well they answer a query",
        replies.Ranking,
        schemas.RerankRequest,
        GENERATING,
    ),
    Operation(
        "POST",
        "/rerank",
        rerank.create_ranking,
        "The same as /v1/rerank",
        replies.Ranking,
        schemas.RerankRequest,
        GENERATING,
    ),
    Operation("GET", "/v1/models", models.list_models, "The models served here", replies.ModelList),
    Operation("GET", "/v1/models/{model}", models.get_model, "One model", replies.ModelCard, errors=READING),
    Operation("GET", "/healthz", health.get_health, "Whether the server lives", health.Health),
    Operation(
        "GET",
        "/readyz",
        health.get_readiness,
        "Whether every model answers",
        health.Readiness,
        extra_replies=((503, health.Readiness),),
    ),
    Operation("GET", "/version", health.get_version, "This build's version", health.Version),
    Operation("GET", "/metrics", health.get_metrics, "Figures for Prometheus", "text/plain"),
)

ERROR_REPLY = ErrorReply
