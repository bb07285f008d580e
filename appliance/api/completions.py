"""POST /v1/completions: text or token ids continued as they stand, several prompts at once if asked."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from appliance.api import parameters
from appliance.api.context import read_request, runtime_of
from appliance.api.generation import (
    Answer,
    answer_generation,
    keep_alive_of,
    now,
    sampling_params,
    timings_body,
)
from appliance.api.inputs import inputs
from appliance.api.opening import given_of, open_generation
from appliance.api.replies import TextChoice, TextChunk, TextCompletion, TextLogprobs, new_id, usage_body
from appliance.api.schemas import MAX_PROMPTS, CompletionRequest
from appliance.api.structured import constraint_of
from appliance.records import Delta, TextPrompt, Timings, TokenLogprob, TokenPrompt, Usage
from appliance.routing.request import Route

DEFAULT_MAX_TOKENS = 16  # OpenAI's own default for this endpoint


async def create_completion(http: Request) -> Response:
    request = await read_request(http, CompletionRequest)
    warnings = parameters.check_completion(request)
    runtime = runtime_of(http)
    sampling = sampling_params(
        request,
        runtime.settings.generator,
        max_tokens=request.max_tokens or DEFAULT_MAX_TOKENS,
        top_logprobs=request.logprobs,
    )
    generations = [
        open_generation(
            http,
            model=request.model,
            prompt=TextPrompt(text=prompt) if isinstance(prompt, str) else TokenPrompt(tokens=prompt),
            sampling=sampling,
            given=given_of(request),
            choices=request.n or 1,
            constraint=constraint_of(request),
            deadline=request.timeout,
            keep_alive=keep_alive_of(request),
        )
        for prompt in inputs(request.prompt, "prompt", at_most=MAX_PROMPTS)
    ]
    return await answer_generation(http, request, generations, _TextShape(request.model), warnings)


class _TextShape:
    def __init__(self, model: str) -> None:
        self._id, self._model, self._created = new_id("cmpl"), model, now()
        self._offsets: dict[int, int] = {}
        self.fingerprint: str | None = None

    def whole(self, answer: Answer) -> TextCompletion:
        return TextCompletion(
            id=self._id,
            created=self._created,
            model=self._model,
            choices=[
                TextChoice(
                    index=index,
                    text=choice.text,
                    logprobs=_logprobs(choice.logprobs, 0),
                    finish_reason=choice.finish_reason,
                )
                for index, choice in enumerate(answer.choices)
            ],
            usage=usage_body(answer.usage, answer.routes[0]),
            system_fingerprint=answer.fingerprint,
            timings=timings_body(answer.timings),
            warnings=answer.warnings,
        )

    def opening(self, choice: int) -> None:
        return None

    def chunk(self, delta: Delta) -> TextChunk:
        offset = self._offsets.get(delta.choice, 0)
        self._offsets[delta.choice] = offset + len(delta.text)
        return self._chunk(
            [
                TextChoice(
                    index=delta.choice,
                    text=delta.text,
                    logprobs=_logprobs(delta.logprobs, offset),
                    finish_reason=delta.finish_reason,
                )
            ]
        )

    def closing(self, usage: Usage, timings: Timings, route: Route) -> TextChunk:
        chunk = self._chunk([])
        chunk.usage, chunk.timings = usage_body(usage, route), timings_body(timings)
        return chunk

    def _chunk(self, choices: list[TextChoice]) -> TextChunk:
        return TextChunk(
            id=self._id,
            object="text_completion",
            created=self._created,
            model=self._model,
            choices=choices,
            system_fingerprint=self.fingerprint,
        )


def _logprobs(found: list[TokenLogprob] | tuple[TokenLogprob, ...], text_offset: int) -> TextLogprobs | None:
    if not found:
        return None
    tokens = [each.raw.decode(errors="replace") for each in found]
    offsets = [text_offset]
    for token in tokens[:-1]:
        offsets.append(offsets[-1] + len(token))
    return TextLogprobs(
        tokens=tokens,
        token_logprobs=[each.logprob for each in found],
        top_logprobs=[
            {rival.raw.decode(errors="replace"): rival.logprob for rival in each.top} for each in found
        ],
        text_offset=offsets,
    )
