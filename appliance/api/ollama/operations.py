"""The paths under /api, as `routes` lists them."""

from __future__ import annotations

from appliance.api.ollama import catalogue, embedding, generating, replies, schemas
from appliance.api.operation import Operation

READING = (400, 404)
GENERATING = (400, 404, 408, 413, 429, 499, 500, 503, 504)

OLLAMA_OPERATIONS = (
    Operation(
        "POST",
        "/api/chat",
        generating.create_chat,
        "Answer a conversation, for Ollama's clients",
        replies.ChatReply,
        schemas.ChatRequest,
        GENERATING,
        access="reader",
    ),
    Operation(
        "POST",
        "/api/generate",
        generating.create_generation,
        "Answer a text, for Ollama's clients",
        replies.GenerateReply,
        schemas.GenerateRequest,
        GENERATING,
        access="reader",
    ),
    Operation(
        "POST",
        "/api/embed",
        embedding.create_embed,
        "Turn texts into vectors, for Ollama's clients",
        embedding.EmbedReply,
        schemas.EmbedRequest,
        GENERATING,
        access="reader",
    ),
    Operation(
        "POST",
        "/api/embeddings",
        embedding.create_ollama_embeddings,
        "Turn one text into a vector, for Ollama's clients",
        embedding.EmbeddingsReply,
        schemas.EmbeddingsRequest,
        GENERATING,
        access="reader",
    ),
    Operation(
        "GET",
        "/api/tags",
        catalogue.list_tags,
        "The models, in Ollama's words",
        catalogue.Tags,
        access="reader",
    ),
    Operation(
        "GET",
        "/api/ps",
        catalogue.list_processes,
        "The models in memory",
        catalogue.Processes,
        access="reader",
    ),
    Operation(
        "POST",
        "/api/show",
        catalogue.show_model,
        "What a model is",
        catalogue.Shown,
        schemas.ShowRequest,
        READING,
        access="reader",
    ),
    Operation(
        "GET",
        "/api/version",
        catalogue.get_ollama_version,
        "This build's version",
        catalogue.OllamaVersion,
        access="reader",
    ),
)
