"""POST /v1/embeddings: texts or token ids to vectors, as numbers or base64."""

from __future__ import annotations

import base64

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from appliance.api.answer import json_answer
from appliance.api.context import read_request, runtime_of
from appliance.api.inputs import inputs
from appliance.api.opening import open_call
from appliance.api.replies import Embedding, EmbeddingList, TokenUsage
from appliance.api.schemas import MAX_INPUTS, EmbeddingRequest
from appliance.api.sse import unless_client_leaves
from appliance.errors import InvalidValue
from appliance.language import speaks
from appliance.records import Embeddings, PromptKind
from appliance.routing.encoding_wire import embed_body, read_embeddings
from appliance.routing.registry import Model
from appliance.routing.upstream import ANSWER_SECONDS, Upstream

# OpenAI's endpoint has no notion of queries and passages: clients compare everything with everything, which
# is what the models' query form is trained for.
DEFAULT_INPUT_TYPE: PromptKind = "query"


async def create_embeddings(http: Request) -> Response:
    request = await read_request(http, EmbeddingRequest)
    runtime = runtime_of(http)
    texts = inputs(request.input, "input", at_most=MAX_INPUTS)
    for index, text in enumerate(texts):
        if not text:
            where = "input" if isinstance(request.input, str) else f"input[{index}]"
            raise InvalidValue(f"{where} is empty", param=where)
    warnings = []
    if request.user is not None:
        warnings.append("user is ignored: requests are not tracked by user")

    async def local(model: Model) -> tuple[Embeddings, int]:
        languages = runtime.embedder(model.name).languages
        if not all(speaks(languages, text) for text in texts if isinstance(text, str)):
            warnings.append(f"{model.name} was trained on {', '.join(languages)} text only")
        kind = request.input_type or DEFAULT_INPUT_TYPE
        answer = await runtime.encoder.embed(model.name, texts, kind=kind, dimensions=request.dimensions)
        return answer, answer.tokens

    async def online(upstream: Upstream, model: Model) -> tuple[Embeddings, int]:
        words = tuple(text for text in texts if isinstance(text, str))
        body = embed_body(model.name, words, request.dimensions)
        return read_embeddings(await upstream.ask("/embeddings", body, ANSWER_SECONDS), len(words))

    call = open_call(http, "embed", request.model, texts, local=local, online=online)
    answer = await unless_client_leaves(http, call.run())
    body = EmbeddingList(
        data=_rows(answer, as_base64=request.encoding_format == "base64"),
        model=request.model,
        usage=TokenUsage(prompt_tokens=answer.tokens, total_tokens=answer.tokens),
        warnings=warnings,
    )
    return json_answer(body, [call.route], warnings)


def _rows(answer: Embeddings, *, as_base64: bool) -> list[Embedding]:
    width = answer.dimensions * 4
    if as_base64:
        rows = [answer.vectors[at : at + width] for at in range(0, len(answer.vectors), width)]
        return [
            Embedding(index=index, embedding=base64.b64encode(row).decode()) for index, row in enumerate(rows)
        ]
    vectors = np.frombuffer(answer.vectors, "<f4").reshape(-1, answer.dimensions)
    return [Embedding(index=index, embedding=vector.tolist()) for index, vector in enumerate(vectors)]
