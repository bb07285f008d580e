"""The de facto paths, as `routes` lists them."""

from __future__ import annotations

from appliance.api import health
from appliance.api.defacto import ranking, schemas, server, tokens
from appliance.api.operation import Operation
from appliance.api.replies import Ranking

READING = (400, 404, 503)
ENCODING = (400, 404, 408, 413, 429, 499, 500, 503, 504)

DEFACTO_OPERATIONS = (
    Operation(
        "POST",
        "/rerank",
        ranking.create_any_ranking,
        "Order texts, as TEI and Jina have it",
        Ranking,
        schemas.AnyRerankRequest,
        ENCODING,
        access="reader",
    ),
    Operation(
        "POST",
        "/v2/rerank",
        ranking.create_cohere_ranking,
        "Order documents, as Cohere has it",
        ranking.CohereRanking,
        schemas.CohereRequest,
        ENCODING,
        access="reader",
    ),
    Operation(
        "POST",
        "/v1/score",
        ranking.create_scores,
        "How well texts fit each other",
        ranking.ScoreList,
        schemas.ScoreRequest,
        ENCODING,
        access="reader",
    ),
    Operation(
        "POST",
        "/tokenize",
        tokens.tokenize,
        "A text's tokens",
        tokens.Tokenized,
        schemas.TokenizeRequest,
        ENCODING,
        access="reader",
    ),
    Operation(
        "POST",
        "/detokenize",
        tokens.detokenize,
        "Tokens' text",
        tokens.Detokenized,
        schemas.DetokenizeRequest,
        ENCODING,
        access="reader",
    ),
    Operation(
        "POST",
        "/apply-template",
        tokens.apply_template,
        "The prompt that a conversation becomes",
        tokens.Templated,
        schemas.TemplateRequest,
        ENCODING,
        access="reader",
    ),
    Operation(
        "GET",
        "/props",
        server.get_props,
        "How a chat model is served",
        server.Props,
        errors=READING,
        query=server.ModelQuery,
        access="reader",
    ),
    Operation(
        "GET",
        "/slots",
        server.list_slots,
        "What a chat model is doing",
        "application/json",
        errors=READING,
        query=server.ModelQuery,
        access="operator",
    ),
    Operation("GET", "/health", health.get_health, "The same as /healthz", health.Health, access="public"),
)
