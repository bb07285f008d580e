"""POST /v1/rerank and /rerank, in the shape that Jina and Cohere share."""

from __future__ import annotations

import math

from starlette.requests import Request
from starlette.responses import Response

from appliance.api.answer import json_answer
from appliance.api.context import read_request, runtime_of
from appliance.api.opening import open_call
from appliance.api.replies import RankedDocument, RankedResult, Ranking, TokenUsage, new_id
from appliance.api.schemas import RerankRequest
from appliance.api.sse import unless_client_leaves
from appliance.language import speaks
from appliance.records import Scores
from appliance.routing.encoding_wire import read_ranking, rerank_body
from appliance.routing.registry import Model
from appliance.routing.upstream import ANSWER_SECONDS, Upstream


async def create_ranking(http: Request) -> Response:
    request = await read_request(http, RerankRequest)
    runtime = runtime_of(http)
    documents = tuple(item if isinstance(item, str) else item.text for item in request.documents)
    warnings = []
    if request.user is not None:
        warnings.append("user is ignored: requests are not tracked by user")

    async def local(model: Model) -> tuple[Scores, int]:
        languages = runtime.reranker(model.name).languages
        if not speaks(languages, request.query):
            warnings.append(
                f"{model.name} was trained on {', '.join(languages)} text only; do not trust its scores for "
                "this query"
            )
        scores = await runtime.encoder.rerank(model.name, request.query, documents)
        return scores, scores.tokens

    async def online(upstream: Upstream, model: Model) -> tuple[Scores, int]:
        body = rerank_body(model.name, request.query, documents)
        return read_ranking(await upstream.ask("/rerank", body, ANSWER_SECONDS), len(documents))

    texts = (request.query, *documents)
    call = open_call(http, "rerank", request.model, texts, local=local, online=online)
    scores = await unless_client_leaves(http, call.run())
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
    return json_answer(body, [call.route], warnings)


def logistic(logit: float) -> float:
    """1 / (1 + e^-logit), without overflow at either end."""
    if logit >= 0:
        return 1 / (1 + math.exp(-logit))
    grown = math.exp(logit)
    return grown / (1 + grown)
