"""POST /v1/rerank and /rerank, in the shape that Jina and Cohere share."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from appliance.api.answer import json_answer
from appliance.api.context import read_request
from appliance.api.encoding import logistic, rank, ranking
from appliance.api.replies import RankedDocument, RankedResult, Ranking, TokenUsage, new_id
from appliance.api.rules import USER_RULES, apply
from appliance.api.schemas import RerankRequest


async def create_ranking(http: Request) -> Response:
    request = await read_request(http, RerankRequest)
    documents = tuple(item if isinstance(item, str) else item.text for item in request.documents)
    warnings = list(apply(request, USER_RULES))
    scores, route = await rank(http, request.model, request.query, documents, warnings)
    results = [
        RankedResult(
            index=index,
            relevance_score=logistic(scores.logits[index]),
            logit=scores.logits[index],
            document=RankedDocument(text=documents[index]) if request.return_documents else None,
        )
        for index in ranking(scores)[: request.top_n]
    ]
    body = Ranking(
        id=new_id("rerank"),
        model=request.model,
        results=results,
        usage=TokenUsage(prompt_tokens=scores.tokens, total_tokens=scores.tokens),
        warnings=warnings,
    )
    return json_answer(body, [route], warnings)
