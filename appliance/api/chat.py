"""POST /v1/chat/completions, as the openai SDK types it."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from appliance.api import parameters
from appliance.api.context import read_request, runtime_of
from appliance.api.generation import Answer, answer_generation, now, sampling_params, timings_body
from appliance.api.replies import (
    AssistantMessage,
    ChatChoice,
    ChatChunk,
    ChatChunkChoice,
    ChatCompletion,
    ChatDelta,
    ChatLogprobs,
    content_logprob,
    new_id,
    usage_body,
)
from appliance.api.schemas import ChatMessage, ChatRequest
from appliance.errors import InvalidValue
from appliance.records import ChatPrompt, Delta, Message, Timings, TokenLogprob, Usage


async def create_chat_completion(http: Request) -> Response:
    request = await read_request(http, ChatRequest)
    warnings = parameters.check_chat(request)
    runtime = runtime_of(http)
    generator = runtime.generator(request.model)
    sampling = sampling_params(
        request,
        runtime.settings.generator,
        max_tokens=_max_tokens(request, warnings),
        top_logprobs=_top_logprobs(request),
    )
    prompt = ChatPrompt(
        messages=tuple(map(_message, request.messages)), template_options=request.chat_template_kwargs or {}
    )
    events = generator.generate(prompt, sampling, choices=request.n or 1, deadline=request.timeout)
    return await answer_generation(http, request, [events], _ChatShape(request.model), warnings)


def _max_tokens(request: ChatRequest, warnings: list[str]) -> int | None:
    if request.max_completion_tokens is not None and request.max_tokens is not None:
        warnings.append("max_tokens is ignored: max_completion_tokens was given too")
    return request.max_tokens if request.max_completion_tokens is None else request.max_completion_tokens


def _top_logprobs(request: ChatRequest) -> int | None:
    if request.top_logprobs and not request.logprobs:
        raise InvalidValue("top_logprobs needs `logprobs: true`", param="top_logprobs")
    return (request.top_logprobs or 0) if request.logprobs else None


def _message(message: ChatMessage) -> Message:
    content = message.content
    text = content if isinstance(content, str) else "".join(part.text or "" for part in content or ())
    role = "system" if message.role == "developer" else message.role
    return Message(role=role, content=text, name=message.name)


class _ChatShape:
    def __init__(self, model: str) -> None:
        self._id, self._model, self._created = new_id("chatcmpl"), model, now()

    def whole(self, answer: Answer) -> ChatCompletion:
        return ChatCompletion(
            id=self._id,
            created=self._created,
            model=self._model,
            choices=[
                ChatChoice(
                    index=index,
                    message=AssistantMessage(content=choice.text),
                    logprobs=_logprobs(choice.logprobs),
                    finish_reason=choice.finish_reason,
                )
                for index, choice in enumerate(answer.choices)
            ],
            usage=usage_body(answer.usage),
            timings=timings_body(answer.timings),
            warnings=answer.warnings,
        )

    def opening(self, choice: int) -> ChatChunk:
        return self._chunk([ChatChunkChoice(index=choice, delta=ChatDelta(role="assistant", content=""))])

    def chunk(self, delta: Delta) -> ChatChunk:
        said = ChatDelta(content=delta.text) if delta.text else ChatDelta()
        return self._chunk(
            [
                ChatChunkChoice(
                    index=delta.choice,
                    delta=said,
                    logprobs=_logprobs(delta.logprobs),
                    finish_reason=delta.finish_reason,
                )
            ]
        )

    def closing(self, usage: Usage, timings: Timings) -> ChatChunk:
        chunk = self._chunk([])
        chunk.usage, chunk.timings = usage_body(usage), timings_body(timings)
        return chunk

    def _chunk(self, choices: list[ChatChunkChoice]) -> ChatChunk:
        return ChatChunk(
            id=self._id,
            object="chat.completion.chunk",
            created=self._created,
            model=self._model,
            choices=choices,
        )


def _logprobs(found: list[TokenLogprob] | tuple[TokenLogprob, ...]) -> ChatLogprobs | None:
    return ChatLogprobs(content=[content_logprob(each) for each in found]) if found else None
