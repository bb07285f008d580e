"""POST /v2/rerank as Cohere has it, /rerank as TEI and Jina have it, /v1/score as vLLM has it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal

import msgspec
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from appliance.api.answer import json_answer, route_headers
from appliance.api.context import read_request
from appliance.api.defacto.schemas import (
    COHERE_RULES,
    RERANK_RULES,
    SCORE_RULES,
    AnyRerankRequest,
    CohereRequest,
    ScoreRequest,
)
from appliance.api.encoding import logistic, rank, ranking
from appliance.api.generation import now
from appliance.api.replies import RankedDocument, RankedResult, Ranking, TokenUsage, new_id
from appliance.api.rules import apply
from appliance.api.schemas import DocumentText
from appliance.api.visible import models_of
from appliance.errors import InvalidValue, MissingParameter, Unavailable


class CohereResult(Struct, kw_only=True, omit_defaults=True):
    index: int
    relevance_score: float
    document: RankedDocument | None = None


class ApiVersion(Struct, kw_only=True):
    version: str = "2"


class BilledUnits(Struct, kw_only=True):
    search_units: int = 1


class CohereMeta(Struct, kw_only=True):
    api_version: ApiVersion
    billed_units: BilledUnits
    warnings: list[str]


class CohereRanking(Struct, kw_only=True):
    id: str
    results: list[CohereResult]
    meta: CohereMeta


class TextRank(Struct, kw_only=True, omit_defaults=True):
    """One entry of TEI's answer, which is a bare list."""

    index: int
    score: float
    text: str | None = None


class Score(Struct, kw_only=True):
    index: int
    object: Literal["score"] = "score"
    score: float


class ScoreList(Struct, kw_only=True):
    id: str
    object: Literal["list"] = "list"
    created: int
    model: str
    data: list[Score]
    usage: TokenUsage
    warnings: list[str]


async def create_cohere_ranking(http: Request) -> Response:
    request = await read_request(http, CohereRequest)
    warnings = list(apply(request, COHERE_RULES))
    documents = _texts(request.documents)
    scores, route = await rank(http, request.model, request.query, documents, warnings)
    body = CohereRanking(
        id=new_id("rerank"),
        results=[
            CohereResult(
                index=index,
                relevance_score=logistic(scores.logits[index]),
                document=RankedDocument(text=documents[index]) if request.return_documents else None,
            )
            for index in ranking(scores)[: request.top_n]
        ],
        meta=CohereMeta(api_version=ApiVersion(), billed_units=BilledUnits(), warnings=warnings),
    )
    return json_answer(body, [route], warnings)


async def create_any_ranking(http: Request) -> Response:
    request = await read_request(http, AnyRerankRequest)
    warnings = list(apply(request, RERANK_RULES))
    if request.texts is not None:
        return await _text_ranking(http, request, request.texts, warnings)
    for name in ("model", "documents"):
        if getattr(request, name) is None:
            raise MissingParameter(f"the parameter {name!r} is required", param=name)
    model, documents = request.model or "", _texts(request.documents or [])
    scores, route = await rank(http, model, request.query, documents, warnings)
    body = Ranking(
        id=new_id("rerank"),
        model=model,
        results=[
            RankedResult(
                index=index,
                relevance_score=logistic(scores.logits[index]),
                logit=scores.logits[index],
                document=RankedDocument(text=documents[index]) if request.return_documents else None,
            )
            for index in ranking(scores)[: request.top_n]
        ],
        usage=TokenUsage(prompt_tokens=scores.tokens, total_tokens=scores.tokens),
        warnings=warnings,
    )
    return json_answer(body, [route], warnings)


async def _text_ranking(
    http: Request, request: AnyRerankRequest, texts: list[str], warnings: list[str]
) -> Response:
    scores, route = await rank(http, request.model or _reranker(http), request.query, texts, warnings)
    body = [
        TextRank(
            index=index,
            score=scores.logits[index] if request.raw_scores else logistic(scores.logits[index]),
            text=texts[index] if request.return_text else None,
        )
        for index in ranking(scores)
    ]
    headers = route_headers([route], warnings)
    return Response(msgspec.json.encode(body), headers=headers, media_type="application/json")


def _reranker(http: Request) -> str:
    """The first reranker: TEI serves one model and asks for none. Raises Unavailable when there is none."""
    for served in models_of(http).all():
        if served.manifest.role == "rerank":
            return served.manifest.name
    raise Unavailable("no rerank model is served")


async def create_scores(http: Request) -> Response:
    request = await read_request(http, ScoreRequest)
    warnings = list(apply(request, SCORE_RULES))
    data: list[Score] = []
    tokens, routes = 0, []
    for query, pairs in itertools.groupby(_pairs(request), key=lambda pair: pair[0]):
        scores, route = await rank(http, request.model, query, [text for _, text in pairs], warnings)
        routes.append(route)
        tokens += scores.tokens
        data += [Score(index=len(data) + n, score=logistic(logit)) for n, logit in enumerate(scores.logits)]
    body = ScoreList(
        id=new_id("score"),
        created=now(),
        model=request.model,
        data=data,
        usage=TokenUsage(prompt_tokens=tokens, total_tokens=tokens),
        warnings=list(dict.fromkeys(warnings)),
    )
    return json_answer(body, routes, body.warnings)


def _pairs(request: ScoreRequest) -> list[tuple[str, str]]:
    """Raises InvalidValue for lists of different lengths."""
    first = [request.text_1] if isinstance(request.text_1, str) else request.text_1
    second = [request.text_2] if isinstance(request.text_2, str) else request.text_2
    if len(first) == 1:
        first = first * len(second)
    if len(first) != len(second):
        raise InvalidValue(
            f"text_1 has {len(first)} texts, text_2 has {len(second)}: give one, or as many", param="text_2"
        )
    return list(zip(first, second, strict=True))


def _texts(documents: Sequence[str | DocumentText]) -> list[str]:
    return [item if isinstance(item, str) else item.text for item in documents]
