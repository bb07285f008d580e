"""POST /v1/embeddings: texts or token ids to vectors, as numbers or base64."""

from __future__ import annotations

import base64

from starlette.requests import Request
from starlette.responses import Response

from appliance.api.answer import json_answer
from appliance.api.context import read_request
from appliance.api.encoding import embed, rows
from appliance.api.inputs import inputs
from appliance.api.replies import Embedding, EmbeddingList, TokenUsage
from appliance.api.rules import USER_RULES, apply
from appliance.api.schemas import MAX_INPUTS, EmbeddingRequest
from appliance.records import Embeddings


async def create_embeddings(http: Request) -> Response:
    request = await read_request(http, EmbeddingRequest)
    texts = inputs(request.input, "input", at_most=MAX_INPUTS)
    warnings = list(apply(request, USER_RULES))
    answer, route = await embed(
        http,
        request.model,
        texts,
        warnings,
        param="input",
        kind=request.input_type,
        dimensions=request.dimensions,
    )
    body = EmbeddingList(
        data=_rows(answer, as_base64=request.encoding_format == "base64"),
        model=request.model,
        usage=TokenUsage(prompt_tokens=answer.tokens, total_tokens=answer.tokens),
        warnings=warnings,
    )
    return json_answer(body, [route], warnings)


def _rows(answer: Embeddings, *, as_base64: bool) -> list[Embedding]:
    width = answer.dimensions * 4
    if as_base64:
        raw = [answer.vectors[at : at + width] for at in range(0, len(answer.vectors), width)]
        return [
            Embedding(index=index, embedding=base64.b64encode(row).decode()) for index, row in enumerate(raw)
        ]
    return [Embedding(index=index, embedding=vector) for index, vector in enumerate(rows(answer))]
