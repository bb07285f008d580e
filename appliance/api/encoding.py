"""One call of an embedder or a reranker, for every surface that has such calls: routed, and warned about.

Knows no surface's bodies.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from starlette.requests import Request

from appliance.api.context import runtime_of
from appliance.api.opening import open_call
from appliance.api.sse import unless_client_leaves
from appliance.errors import InvalidValue
from appliance.language import speaks
from appliance.records import Embeddings, PromptKind, Scores
from appliance.routing.encoding_wire import embed_body, read_embeddings, read_ranking, rerank_body
from appliance.routing.registry import Model
from appliance.routing.request import Route
from appliance.routing.upstream import ANSWER_SECONDS, Upstream

# Where a surface has no notion of queries and passages, clients compare everything with everything, which is
# what the models' query form is trained for.
DEFAULT_KIND: PromptKind = "query"


async def embed(
    http: Request,
    model: str,
    texts: tuple[str, ...] | tuple[tuple[int, ...], ...],
    warnings: list[str],
    *,
    param: str,
    kind: PromptKind | None = None,
    dimensions: int | None = None,
) -> tuple[Embeddings, Route]:
    """The vectors, and who made them. Raises InvalidValue for an empty text, naming `param`."""
    runtime = runtime_of(http)
    for index, text in enumerate(texts):
        if not text:
            where = param if len(texts) == 1 else f"{param}[{index}]"
            raise InvalidValue(f"{where} is empty", param=where)

    async def local(found: Model) -> tuple[Embeddings, int]:
        languages = runtime.embedder(found.name).languages
        if not all(speaks(languages, text) for text in texts if isinstance(text, str)):
            warnings.append(f"{found.name} was trained on {', '.join(languages)} text only")
        answer = await runtime.encoder.embed(
            found.name, texts, kind=kind or DEFAULT_KIND, dimensions=dimensions
        )
        return answer, answer.tokens

    async def online(upstream: Upstream, found: Model) -> tuple[Embeddings, int]:
        words = tuple(text for text in texts if isinstance(text, str))
        body = embed_body(found.name, words, dimensions)
        return read_embeddings(await upstream.ask("/embeddings", body, ANSWER_SECONDS), len(words))

    call = open_call(http, "embed", model, texts, local=local, online=online)
    answer = await unless_client_leaves(http, call.run())
    warnings.extend(call.warnings)
    return answer, call.route


async def rank(
    http: Request, model: str, query: str, documents: Sequence[str], warnings: list[str]
) -> tuple[Scores, Route]:
    """Every document's score, in the order given, and who gave it."""
    runtime = runtime_of(http)
    documents = tuple(documents)

    async def local(found: Model) -> tuple[Scores, int]:
        languages = runtime.reranker(found.name).languages
        if not speaks(languages, query):
            warnings.append(
                f"{found.name} was trained on {', '.join(languages)} text only; do not trust its scores for "
                "this query"
            )
        scores = await runtime.encoder.rerank(found.name, query, documents)
        return scores, scores.tokens

    async def online(upstream: Upstream, found: Model) -> tuple[Scores, int]:
        body = rerank_body(found.name, query, documents)
        return read_ranking(await upstream.ask("/rerank", body, ANSWER_SECONDS), len(documents))

    call = open_call(http, "rerank", model, (query, *documents), local=local, online=online)
    scores = await unless_client_leaves(http, call.run())
    warnings.extend((*scores.warnings, *call.warnings))
    return scores, call.route


def ranking(scores: Scores) -> list[int]:
    """The documents' places, best first; equal ones in the order given."""
    return sorted(range(len(scores.logits)), key=lambda index: (-scores.logits[index], index))


def rows(answer: Embeddings) -> list[list[float]]:
    """The vectors as numbers."""
    found: list[list[float]] = np.frombuffer(answer.vectors, "<f4").reshape(-1, answer.dimensions).tolist()
    return found


def logistic(logit: float) -> float:
    """1 / (1 + e^-logit), without overflow at either end."""
    if logit >= 0:
        return 1 / (1 + math.exp(-logit))
    grown = math.exp(logit)
    return grown / (1 + grown)
