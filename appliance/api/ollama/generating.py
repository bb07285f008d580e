"""POST /api/chat and /api/generate."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from appliance.api import relay
from appliance.api.answer import json_answer, json_body
from appliance.api.context import read_request, runtime_of
from appliance.api.generation import keep_alive_of
from appliance.api.ollama import translate
from appliance.api.ollama.replies import Shape, Writer
from appliance.api.ollama.schemas import ChatRequest, GenerateRequest, GeneratingFields
from appliance.api.opening import given_of, open_generation
from appliance.lineup import PLUS
from appliance.records import Prompt

LINES = "application/x-ndjson"


async def create_chat(http: Request) -> Response:
    request = await read_request(http, ChatRequest)
    warnings = translate.check(request)
    shape = Shape(request.model, is_chat=True)
    if not request.messages:
        return _loaded(http, request, shape)
    return await _answered(http, request, translate.chat_prompt(request), shape, warnings)


async def create_generation(http: Request) -> Response:
    request = await read_request(http, GenerateRequest)
    warnings = translate.check(request)
    shape = Shape(request.model, is_chat=False)
    if not request.prompt:
        return _loaded(http, request, shape)
    return await _answered(http, request, translate.text_prompt(request), shape, warnings)


async def _answered(
    http: Request, request: GeneratingFields, prompt: Prompt, shape: Shape, warnings: list[str]
) -> Response:
    fields = translate.sampling_fields(request)
    generation = open_generation(
        http,
        model=fields.model,
        prompt=prompt,
        sampling=translate.sampling_of(request, runtime_of(http).settings.generator),
        given=given_of(fields),
        constraint=translate.constraint_of(request),
        keep_alive=keep_alive_of(fields),
    )
    if request.stream is not False:
        return await relay.streamed(http, generation, Writer(shape), LINES, warnings)
    answer = await relay.whole(http, generation)
    warnings += answer.warnings
    return json_answer(shape.whole(answer, warnings), answer.routes, warnings)


def _loaded(http: Request, request: GeneratingFields, shape: Shape) -> Response:
    """A request that says nothing loads the model; with `keep_alive: 0` it unloads it."""
    name = translate.model_of(request.model)
    keep_alive = keep_alive_of(translate.sampling_fields(request))
    residency = runtime_of(http).residency
    if keep_alive == 0:
        residency.unload(name.partition(PLUS)[0])
        return json_body(shape.loaded("unload"))
    residency.load(name.partition(PLUS)[0], keep_alive)
    return json_body(shape.loaded("load"))
