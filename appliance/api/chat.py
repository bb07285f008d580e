"""POST /v1/chat/completions, as the openai SDK types it."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response

from appliance.api import parameters
from appliance.api.context import read_request, require_keeper, runtime_of
from appliance.api.generation import (
    Answer,
    Choice,
    answer_generation,
    keep_alive_of,
    now,
    sampling_params,
    timings_body,
)
from appliance.api.grounding import grounding_of
from appliance.api.messages import messages_of
from appliance.api.opening import given_of, open_generation, scheduling_class_of
from appliance.api.replies import (
    AssistantMessage,
    CalledFunction,
    CalledTool,
    ChatChoice,
    ChatChunk,
    ChatChunkChoice,
    ChatCompletion,
    ChatDelta,
    ChatFinishReason,
    ChatLogprobs,
    CitationAnnotation,
    FunctionPiece,
    ToolPiece,
    content_logprob,
    new_id,
    usage_body,
)
from appliance.api.schemas import ChatRequest
from appliance.api.stored_chats import recorded
from appliance.api.structured import constraint_of
from appliance.api.tools import tool_choice_of, tools_of
from appliance.errors import InvalidValue
from appliance.records import (
    ChatPrompt,
    Citation,
    Delta,
    FinishReason,
    SchedulingClass,
    Timings,
    TokenLogprob,
    ToolCallDelta,
    ToolChoice,
    Usage,
)
from appliance.routing.request import Route


async def create_chat_completion(http: Request) -> Response:
    request = await read_request(http, ChatRequest)
    warnings = parameters.check_chat(request)
    runtime = runtime_of(http)
    messages = messages_of(request.messages)
    grounding = await grounding_of(http, request, messages, warnings)
    sampling = sampling_params(
        request,
        runtime.settings.generator,
        max_tokens=_max_tokens(request, warnings),
        top_logprobs=_top_logprobs(request),
    )
    given = given_of(request)
    tools = tools_of(request)
    tool_choice = tool_choice_of(request, tools)
    prompt = ChatPrompt(
        messages=grounding.messages(messages),
        tools=tools,
        tool_choice=tool_choice,
        reasoning_effort=request.reasoning_effort,
        template_options=request.chat_template_kwargs or {},
        continues=_continues(request, tool_choice),
    )
    generation = open_generation(
        http,
        model=grounding.model,
        prompt=prompt,
        sampling=grounding.sampling(sampling, given),
        given=given,
        choices=request.n or 1,
        constraint=constraint_of(request, request.response_format),
        deadline=request.timeout,
        conversation=request.prompt_cache_key or "",
        bases=grounding.bases,
        is_local_only=grounding.is_local_only,
        keep_alive=keep_alive_of(request),
        scheduling_class=scheduling_class_of(request.service_tier),
    )
    generation = generation.with_events(grounding.events(generation.events))
    shape = _shape(request)
    if request.store:
        require_keeper(http, "store")
        _ = runtime.archive  # refused before the model is asked, where nothing is kept
        generation = recorded(http, request, generation, shape.whole)
    return await answer_generation(http, request, [generation], shape, warnings)


def _continues(request: ChatRequest, choice: ToolChoice) -> bool:
    """Raises InvalidValue where there is no beginning, or none that can be gone on from."""
    if not request.continue_final_message:
        return False
    last = request.messages[-1]
    fault = ""
    if last.role != "assistant" or last.tool_calls or last.function_call:
        fault = "needs a last message of the role assistant, with text and no calls"
    elif len(request.messages) == 1:
        fault = "needs a message before the answer's beginning"
    elif choice.mode == "required":
        fault = "cannot go with a forced tool call"
    elif constraint_of(request, request.response_format) is not None:
        fault = "cannot go with a form of the whole answer: only what follows could be held to it"
    if fault:
        raise InvalidValue(f"continue_final_message {fault}", param="continue_final_message")
    return True


def _max_tokens(request: ChatRequest, warnings: list[str]) -> int | None:
    if request.max_completion_tokens is not None and request.max_tokens is not None:
        warnings.append("max_tokens is ignored: max_completion_tokens was given too")
    return request.max_tokens if request.max_completion_tokens is None else request.max_completion_tokens


def _top_logprobs(request: ChatRequest) -> int | None:
    if request.top_logprobs and not request.logprobs:
        raise InvalidValue("top_logprobs needs `logprobs: true`", param="top_logprobs")
    return (request.top_logprobs or 0) if request.logprobs else None


def _shape(request: ChatRequest) -> _ChatShape:
    tier = None if request.service_tier is None else scheduling_class_of(request.service_tier)
    return _ChatShape(request.model, tier, calls_functions=bool(request.functions))


class _ChatShape:
    """`calls_functions`: calls are written in the deprecated form, which has only one and no ids."""

    def __init__(self, model: str, tier: SchedulingClass | None, *, calls_functions: bool) -> None:
        self._id, self._model, self._created = new_id("chatcmpl"), model, now()
        self._tier = UNSET if tier is None else tier
        self._calls_functions = calls_functions
        self.fingerprint: str | None = None

    def whole(self, answer: Answer) -> ChatCompletion:
        return ChatCompletion(
            id=self._id,
            created=self._created,
            model=self._model,
            choices=[
                ChatChoice(
                    index=index,
                    message=self._message(choice),
                    logprobs=_logprobs(choice.logprobs),
                    finish_reason=self._reason(choice.finish_reason) or "stop",
                )
                for index, choice in enumerate(answer.choices)
            ],
            usage=usage_body(answer.usage, answer.routes[0]),
            system_fingerprint=answer.fingerprint,
            timings=timings_body(answer.timings),
            service_tier=self._tier,
            warnings=answer.warnings,
        )

    def opening(self, choice: int) -> ChatChunk:
        return self._chunk([ChatChunkChoice(index=choice, delta=ChatDelta(role="assistant", content=""))])

    def chunk(self, delta: Delta) -> ChatChunk:
        said = ChatDelta(content=delta.text or None, reasoning_content=delta.reasoning or None)
        pieces = [_piece(piece) for piece in delta.tool_calls]
        if self._calls_functions and pieces:
            said.function_call = FunctionPiece(
                name=pieces[0].function.name,
                arguments="".join(piece.arguments for piece in delta.tool_calls),
            )
        elif pieces:
            said.tool_calls = pieces
        said.annotations = _annotations(delta.citations) or None
        choice = ChatChunkChoice(
            index=delta.choice,
            delta=said,
            logprobs=_logprobs(delta.logprobs),
            finish_reason=self._reason(delta.finish_reason),
        )
        chunk = self._chunk([choice])
        chunk.warnings = list(delta.warnings) or None
        return chunk

    def closing(self, usage: Usage, timings: Timings, route: Route) -> ChatChunk:
        chunk = self._chunk([])
        chunk.usage, chunk.timings = usage_body(usage, route), timings_body(timings)
        return chunk

    def _message(self, choice: Choice) -> AssistantMessage:
        message = AssistantMessage(content=choice.text if choice.text or not choice.calls else None)
        message.reasoning_content = choice.reasoning or UNSET
        message.annotations = _annotations(choice.citations) or UNSET
        calls = [
            CalledTool(id=call.id, function=CalledFunction(name=call.name, arguments=call.arguments))
            for _, call in sorted(choice.calls.items())
        ]
        if self._calls_functions and calls:
            message.function_call = calls[0].function
        elif calls:
            message.tool_calls = calls
        return message

    def _reason(self, reason: FinishReason | None) -> ChatFinishReason | None:
        return "function_call" if reason == "tool_calls" and self._calls_functions else reason

    def _chunk(self, choices: list[ChatChunkChoice]) -> ChatChunk:
        return ChatChunk(
            id=self._id,
            object="chat.completion.chunk",
            created=self._created,
            model=self._model,
            choices=choices,
            service_tier=self._tier,
            system_fingerprint=self.fingerprint,
        )


def _annotations(citations: Sequence[Citation]) -> list[CitationAnnotation]:
    return [CitationAnnotation(file_citation=citation) for citation in citations]


def _piece(delta: ToolCallDelta) -> ToolPiece:
    function = FunctionPiece(name=delta.name, arguments=delta.arguments)
    kind = "function" if delta.name is not None else None
    return ToolPiece(index=delta.index, id=delta.id, type=kind, function=function)


def _logprobs(found: list[TokenLogprob] | tuple[TokenLogprob, ...]) -> ChatLogprobs | None:
    return ChatLogprobs(content=[content_logprob(each) for each in found]) if found else None
