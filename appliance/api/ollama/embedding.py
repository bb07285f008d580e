"""POST /api/embed and the older /api/embeddings."""

from __future__ import annotations

import time

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from appliance.api.answer import json_answer
from appliance.api.context import read_request
from appliance.api.encoding import embed, rows
from appliance.api.ollama.replies import NANO
from appliance.api.ollama.schemas import EMBED_RULES, EMBEDDINGS_RULES, EmbeddingsRequest, EmbedRequest
from appliance.api.ollama.translate import model_of
from appliance.api.rules import apply


class EmbedReply(Struct, kw_only=True):
    model: str
    embeddings: list[list[float]]
    total_duration: int
    load_duration: int = 0
    prompt_eval_count: int
    warnings: list[str] = []


class EmbeddingsReply(Struct, kw_only=True):
    embedding: list[float]


async def create_embed(http: Request) -> Response:
    begun = time.perf_counter()
    request = await read_request(http, EmbedRequest)
    warnings = list(apply(request, EMBED_RULES))
    texts = (request.input,) if isinstance(request.input, str) else tuple(request.input)
    answer, route = await embed(
        http, model_of(request.model), texts, warnings, param="input", dimensions=request.dimensions
    )
    body = EmbedReply(
        model=request.model,
        embeddings=rows(answer),
        total_duration=round((time.perf_counter() - begun) * NANO),
        prompt_eval_count=answer.tokens,
        warnings=warnings,
    )
    return json_answer(body, [route], warnings)


async def create_ollama_embeddings(http: Request) -> Response:
    request = await read_request(http, EmbeddingsRequest)
    warnings = list(apply(request, EMBEDDINGS_RULES))
    answer, route = await embed(http, model_of(request.model), (request.prompt,), warnings, param="prompt")
    return json_answer(EmbeddingsReply(embedding=rows(answer)[0]), [route], warnings)
