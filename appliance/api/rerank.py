"""POST /v1/rerank and /rerank, in the shape that Jina and Cohere share."""

from __future__ import annotations

import math

from starlette.requests import Request
from starlette.responses import Response

from appliance.api.answer import json_answer
from appliance.api.context import read_request, runtime_of
from appliance.api.replies import RankedDocument, RankedResult, Ranking, TokenUsage, new_id
from appliance.api.schemas import RerankRequest
from appliance.api.sse import unless_client_leaves
from appliance.language import speaks


async def create_ranking(http: Request) -> Response:
    request = await read_request(http, RerankRequest)
    runtime = runtime_of(http)
    model = runtime.reranker(request.model)
    documents = tuple(item if isinstance(item, str) else item.text for item in request.documents)
    warnings = []
    if request.user is not None:
        warnings.append("user is ignored: requests are not tracked by user")
    if not speaks(model.languages, request.query):
        warnings.append(
            f"{request.model} was trained on {', '.join(model.languages)} text only; do not trust its scores "
            "for this query"
        )
    scores = await unless_client_leaves(http, runtime.encoder.rerank(request.model, request.query, documents))
    warnings.extend(scores.warnings)
    order = sorted(range(len(documents)), key=lambda index: (-scores.logits[index], index))
    results = [
        RankedResult(
            index=index,
            relevance_score=logistic(scores.logits[index]),
            logit=scores.logits[index],
            document=RankedDocument(text=documents[index]) if request.return_documents else None,
        )
        for index in order[: request.top_n]
    ]
    body = Ranking(
        id=new_id("rerank"),
        model=request.model,
        results=results,
        usage=TokenUsage(prompt_tokens=scores.tokens, total_tokens=scores.tokens),
        warnings=warnings,
    )
    return json_answer(body, request.model, warnings)


def logistic(logit: float) -> float:
    """1 / (1 + e^-logit), without overflow at either end."""
    if logit >= 0:
        return 1 / (1 + math.exp(-logit))
    grown = math.exp(logit)
    return grown / (1 + grown)
