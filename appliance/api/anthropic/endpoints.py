"""POST /v1/messages and /v1/messages/count_tokens."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from appliance.api import relay
from appliance.api.answer import json_answer, noted
from appliance.api.anthropic import translate
from appliance.api.anthropic.replies import MessageBody, TokenCount, Writer, message_body
from appliance.api.anthropic.schemas import CountTokens, CreateMessage
from appliance.api.context import read_request, runtime_of
from appliance.api.opening import given_of, open_generation
from appliance.api.operation import Operation
from appliance.api.sse import unless_client_leaves
from appliance.api.visible import models_of


async def create_message(http: Request) -> Response:
    request = await read_request(http, CreateMessage)
    warnings = translate.check(request)
    generation = open_generation(
        http,
        model=request.model,
        prompt=translate.prompt_of(request),
        sampling=translate.sampling_of(request, runtime_of(http).settings.generator),
        given=given_of(translate.sampling_fields(request)),
        constraint=translate.constraint_of(request),
        deadline=request.timeout,
    )
    if request.stream:
        writer = Writer(request.model)
        return await relay.streamed(http, generation, writer, "text/event-stream", warnings)
    answer = await relay.whole(http, generation)
    warnings += answer.warnings
    return json_answer(message_body(request.model, answer, warnings), answer.routes, warnings)


async def count_message_tokens(http: Request) -> Response:
    request = await read_request(http, CountTokens)
    warnings = translate.check(request)
    generator = models_of(http).generator(request.model)
    tokens = await unless_client_leaves(http, generator.tokenize(translate.prompt_of(request)))
    return noted(TokenCount(input_tokens=len(tokens)), warnings)


GENERATING = (400, 404, 408, 413, 429, 499, 500, 503, 504)

ANTHROPIC_OPERATIONS = (
    Operation(
        "POST",
        "/v1/messages",
        create_message,
        "Answer a conversation, for Anthropic's clients",
        MessageBody,
        CreateMessage,
        GENERATING,
        streams=True,
        access="reader",
    ),
    Operation(
        "POST",
        "/v1/messages/count_tokens",
        count_message_tokens,
        "How many tokens a message's prompt has",
        TokenCount,
        CountTokens,
        GENERATING,
        access="reader",
    ),
)
