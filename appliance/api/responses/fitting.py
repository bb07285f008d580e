"""Prompts and the context's size: how many tokens one has, and what to leave out when it has too many."""

from __future__ import annotations

from starlette.requests import Request

from appliance.api.visible import models_of
from appliance.errors import ContextLengthExceeded, ModelNotFound
from appliance.records import ChatPrompt

LEAST_ANSWER = 256  # tokens to keep free for an answer without a limit of its own


async def count_tokens(http: Request, model: str, prompt: ChatPrompt) -> int:
    """The prompt's length as the model reads it. Raises ContextLengthExceeded when far too long."""
    return len(await models_of(http).generator(model).tokenize(prompt))


async def truncated(
    http: Request, model: str, prompt: ChatPrompt, max_tokens: int | None
) -> tuple[ChatPrompt, int]:
    """The prompt without its oldest turns, as many as must go, and how many went.

    Turns go together with the answers to them: what is left begins with something that the user said. Raises
    ContextLengthExceeded when even the last of those does not fit.
    """
    try:
        context = models_of(http).served(model).context_length
    except ModelNotFound:
        return prompt, 0  # an online model's tokens cannot be counted here; it says itself what is too long
    room = context - min(max_tokens or LEAST_ANSWER, context // 2)
    first = 1 if prompt.messages and prompt.messages[0].role == "system" else 0
    starts = [
        place for place, message in enumerate(prompt.messages) if place >= first and message.role == "user"
    ]
    if not starts or await _fits(http, model, prompt, room):
        return prompt, 0
    low, high = 0, len(starts) - 1
    while low < high:
        middle = (low + high) // 2
        if await _fits(http, model, _without(prompt, first, starts[middle]), room):
            high = middle
        else:
            low = middle + 1
    return _without(prompt, first, starts[low]), starts[low] - first


def _without(prompt: ChatPrompt, first: int, start: int) -> ChatPrompt:
    messages = prompt.messages[:first] + prompt.messages[start:]
    return ChatPrompt(
        messages=messages,
        tools=prompt.tools,
        tool_choice=prompt.tool_choice,
        reasoning_effort=prompt.reasoning_effort,
        template_options=prompt.template_options,
    )


async def _fits(http: Request, model: str, prompt: ChatPrompt, room: int) -> bool:
    try:
        return await count_tokens(http, model, prompt) <= room
    except ContextLengthExceeded:
        return False
