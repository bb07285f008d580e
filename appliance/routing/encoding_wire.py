"""Embeddings and rerank as an upstream speaks them: bodies out, checked answers in. Knows no connection."""

from __future__ import annotations

import math
from array import array
from typing import Any

import msgspec
from msgspec import Struct

from appliance.records import Embeddings, Scores
from appliance.routing.failure import UpstreamFailure

MAX_DIMENSIONS = 65_536
SURE = 30.0  # the logit of a relevance of 1


class _Usage(Struct):
    prompt_tokens: int | None = None
    total_tokens: int | None = None


class _Row(Struct):
    index: int
    embedding: list[float]


class _Rows(Struct):
    data: list[_Row]
    usage: _Usage | None = None


class _Ranked(Struct):
    index: int
    relevance_score: float
    logit: float | None = None


class _Ranking(Struct):
    results: list[_Ranked]
    usage: _Usage | None = None


_decode_rows = msgspec.json.Decoder(_Rows).decode
_decode_ranking = msgspec.json.Decoder(_Ranking).decode


def embed_body(model: str, texts: tuple[str, ...], dimensions: int | None) -> bytes:
    body: dict[str, Any] = {"model": model, "input": texts, "encoding_format": "float"}
    return msgspec.json.encode(body if dimensions is None else body | {"dimensions": dimensions})


def rerank_body(model: str, query: str, documents: tuple[str, ...]) -> bytes:
    body = {"model": model, "query": query, "documents": documents, "top_n": len(documents)}
    return msgspec.json.encode(body)


def read_embeddings(body: bytes, count: int) -> tuple[Embeddings, int]:
    """`count` rows of one width, in order, and the tokens they took. Raises UpstreamFailure."""
    found = _decoded(_decode_rows, body)
    rows = {row.index: row.embedding for row in found.data}
    widths = {len(row) for row in rows.values()}
    if rows.keys() != set(range(count)) or len(widths) != 1 or not 0 < min(widths) <= MAX_DIMENSIONS:
        raise UpstreamFailure("garbage", f"{len(rows)} vectors, {len(widths)} widths, {count} texts")
    values = array("f", (number for index in range(count) for number in rows[index]))
    if not all(map(math.isfinite, values)):
        raise UpstreamFailure("garbage", "a vector has a number that is none")
    tokens = _tokens(found.usage)
    return Embeddings(id=0, vectors=values.tobytes(), dimensions=min(widths), tokens=tokens), tokens


def read_ranking(body: bytes, count: int) -> tuple[Scores, int]:
    """One logit per document, in the documents' order. Raises UpstreamFailure."""
    found = _decoded(_decode_ranking, body)
    logits = {each.index: _logit(each) for each in found.results}
    if logits.keys() != set(range(count)):
        raise UpstreamFailure("garbage", f"{len(logits)} scores for {count} documents")
    tokens = _tokens(found.usage)
    return Scores(id=0, logits=tuple(logits[index] for index in range(count)), tokens=tokens), tokens


def _logit(found: _Ranked) -> float:
    """What our own rerankers say; of a service that only says a relevance in [0, 1], its inverse logistic."""
    score = found.relevance_score
    if found.logit is not None and math.isfinite(found.logit):
        return found.logit
    if not 0 <= score <= 1:
        raise UpstreamFailure("garbage", f"a relevance of {score}, which is not in [0, 1]")
    edge = 1 / (1 + math.exp(SURE))
    inside = min(max(score, edge), 1 - edge)
    return math.log(inside) - math.log1p(-inside)


def _tokens(usage: _Usage | None) -> int:
    counted = (usage.prompt_tokens or usage.total_tokens or 0) if usage else 0
    if counted < 0:
        raise UpstreamFailure("garbage", "an answer counts less than no tokens")
    return counted


def _decoded(decode: Any, body: bytes) -> Any:
    try:
        return decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UpstreamFailure("garbage", f"an answer of another shape: {str(error)[:120]}") from None
