"""A long conversation as its summary, written by the model that will go on from it."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request

from appliance.api.generation import collect
from appliance.api.opening import open_generation
from appliance.api.responses.items import wrapped
from appliance.api.responses.replies import CompactionItem, new_id
from appliance.errors import ContextLengthExceeded, InvalidValue
from appliance.records import ChatPrompt, Message, SamplingParams, Usage

SUMMARY_TOKENS = 256
INSTRUCTION = (
    "Sum up the conversation below for somebody who has to go on with it: who wants what, what was decided,"
    " found out and done, with names, numbers and the wording of what is still open. Write the summary only."
)
MOST_HALVINGS = 6


async def compact(
    http: Request, model: str, turns: Sequence[Message], instructions: str | None = None
) -> tuple[CompactionItem, Usage]:
    """Raises InvalidValue when there is nothing to sum up, ContextLengthExceeded for one turn too long."""
    if not turns:
        raise InvalidValue("there is nothing to compact", param="input")
    lines = [f"{turn.role}: {_said(turn)}" for turn in turns]
    for halving in range(MOST_HALVINGS):
        try:
            summary, usage = await _summarise(http, model, "\n\n".join(lines), instructions)
        except ContextLengthExceeded:
            if halving == MOST_HALVINGS - 1 or len(lines) == 1:
                raise
            lines = await _shorter(http, model, lines, instructions)
            continue
        return CompactionItem(id=new_id("cmp"), encrypted_content=wrapped(summary)), usage
    raise AssertionError("the last halving returns or raises")


async def _shorter(http: Request, model: str, lines: list[str], instructions: str | None) -> list[str]:
    """The first half summed up, if that fits, in front of the second."""
    half = len(lines) // 2
    try:
        summary, _ = await _summarise(http, model, "\n\n".join(lines[:half]), instructions)
    except ContextLengthExceeded:
        first = await _shorter(http, model, lines[:half], instructions) if half > 1 else lines[:half]
        return [*first, *lines[half:]]
    return [f"earlier: {summary}", *lines[half:]]


async def _summarise(
    http: Request, model: str, conversation: str, instructions: str | None
) -> tuple[str, Usage]:
    wish = f"{INSTRUCTION}\n\n{instructions}" if instructions else INSTRUCTION
    prompt = ChatPrompt(
        messages=(Message(role="system", content=wish), Message(role="user", content=conversation))
    )
    sampling = SamplingParams(max_tokens=SUMMARY_TOKENS, temperature=0)
    answer = await collect(open_generation(http, model=model, prompt=prompt, sampling=sampling).events)
    return answer.choices[0].text.strip(), answer.usage


def _said(turn: Message) -> str:
    calls = "".join(f"\n(called {call.name} with {call.arguments})" for call in turn.tool_calls)
    return turn.content + calls
