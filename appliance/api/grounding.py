"""Chat with a knowledge base: `MODEL@BASE` as the model, or the body field `knowledge`.

The one hook that chat has: `grounding_of` says which model answers, what it is asked and what becomes of its
events. Without a base all of that is the request as it stands.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Sequence

import msgspec
from starlette.requests import Request

from appliance.api.context import principal_of, runtime_of
from appliance.api.schemas import ChatRequest
from appliance.api.visible import models_of
from appliance.errors import InvalidValue
from appliance.knowledge import prompt
from appliance.knowledge.answer_cache import AnswerCache
from appliance.knowledge.retrieve import Candidate
from appliance.records import Delta, Ended, Message, SamplingParams, Started, Timings, Usage
from appliance.routing.request import Events
from appliance.store.rows import Base, Edition

SEPARATOR = "@"
TEMPERATURE = 0.2  # of answers from passages, where the client names none
# A base whose metadata says `routing: local-only` is answered from by models of this machine only.
ROUTING_KEY, LOCAL_ONLY = "routing", "local-only"

Said = tuple[Started, list[Delta], Ended]


class Grounding:
    """Without a base: everything stays as it is. `bases`: whose text is in the prompt, by id and name."""

    def __init__(self, model: str, bases: Sequence[Base] = ()) -> None:
        self.model = model
        self.bases = tuple(name for base in bases for name in (base.id, base.name) if name)
        self.is_local_only = any(base.metadata.get(ROUTING_KEY) == LOCAL_ONLY for base in bases)

    def messages(self, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        return messages

    def sampling(self, sampling: SamplingParams, given: frozenset[str]) -> SamplingParams:
        """`given`: what the client itself set."""
        return sampling

    def events(self, events: Events) -> Events:
        return events


class FromPassages(Grounding):
    """The model answers from passages, and its answer is given their citations."""

    def __init__(
        self,
        model: str,
        bases: Sequence[Base],
        question: str,
        passages: Sequence[Candidate],
        keep: _Keep | None = None,
    ) -> None:
        super().__init__(model, bases)
        self._question, self._passages, self._keep = question, passages, keep

    def messages(self, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        return prompt.with_passages(messages, self._passages)

    def sampling(self, sampling: SamplingParams, given: frozenset[str]) -> SamplingParams:
        """Soberly: what is to be said stands in the passages."""
        if "temperature" in given:
            return sampling
        return msgspec.structs.replace(sampling, temperature=min(sampling.temperature, TEMPERATURE))

    def events(self, events: Events) -> Events:
        return self._cited(events)

    async def _cited(self, events: Events) -> AsyncGenerator[Started | list[Delta] | Ended]:
        texts: dict[int, str] = {}
        said: list[Delta] = []
        started: Started | None = None
        try:
            async for event in events:
                if isinstance(event, list):
                    event = [self._finished(delta, texts) for delta in event]
                    said += event
                elif isinstance(event, Started):
                    started = event
                elif self._keep is not None and started is not None:
                    self._keep((started, said, event))
                yield event
        finally:
            await events.aclose()

    def _finished(self, delta: Delta, texts: dict[int, str]) -> Delta:
        """A choice's last delta carries the marks that are missing and all its citations."""
        text = texts[delta.choice] = texts.get(delta.choice, "") + delta.text
        if delta.finish_reason is None or delta.finish_reason == "tool_calls":
            return delta
        marks = prompt.closing(text, self._question, self._passages)
        return msgspec.structs.replace(
            delta, text=delta.text + marks, citations=prompt.citations(text + marks, self._passages)
        )


class _Ready(Grounding):
    """The answer is known without the model: nothing was found, or it was given before."""

    def __init__(self, model: str, said: Said) -> None:
        super().__init__(model)
        self._said = said

    def events(self, events: Events) -> Events:
        return self._replay(events)

    async def _replay(self, events: Events) -> AsyncGenerator[Started | list[Delta] | Ended]:
        await events.aclose()
        for event in self._said:
            yield event


class _Keep:
    """Where an answer goes so that it can be given again."""

    def __init__(self, cache: AnswerCache[Said], edition: Edition, asked: bytes) -> None:
        self._cache, self._place = cache, (edition.id, edition.generation, asked)

    def __call__(self, said: Said) -> None:
        self._cache.put(*self._place, said)

    def find(self) -> Said | None:
        return self._cache.get(*self._place)


async def grounding_of(
    http: Request, request: ChatRequest, messages: Sequence[Message], warnings: list[str]
) -> Grounding:
    """How to answer the request. Raises NotFound for a base that is not there."""
    model, _, named = request.model.partition(SEPARATOR)
    if named and request.knowledge and named != request.knowledge:
        raise InvalidValue(
            f"the model names the knowledge base {named!r}, `knowledge` another: {request.knowledge!r}",
            param="knowledge",
        )
    name = named or request.knowledge
    if not name:
        return Grounding(request.model)
    runtime, principal = runtime_of(http), principal_of(http)
    knowledge = runtime.knowledge
    models_of(http).check(model, "chat")  # a wrong model is told before anything is searched
    queries = prompt.questions(messages)
    if not queries:
        raise InvalidValue("there is no user message to search the knowledge base for", param="messages")
    base = await knowledge.bases.find(principal, name)
    keep = None
    if knowledge.answers.is_on:
        keep = _Keep(knowledge.answers, base.edition, _asked(request))
        if (said := keep.find()) is not None:
            warnings.append(
                "this answer was given before, and is given again (knowledge.answer_cache_seconds)"
            )
            return _Ready(model, said)
    answer = await knowledge.search(principal, base.id, queries, prompt.MOST_PASSAGES)
    warnings += answer.warnings
    if not answer.candidates or answer.relevance < runtime.settings.knowledge.min_relevance:
        return _Ready(model, _nothing(base.name or base.id, queries[0], request.n or 1))
    return FromPassages(model, [base], queries[0], prompt.chosen(answer.candidates), keep)


def _nothing(base: str, question: str, choices: int) -> Said:
    text = prompt.nothing_found(base, question)
    deltas = [
        Delta(id=0, choice=choice, text=text, tokens=0, finish_reason="stop") for choice in range(choices)
    ]
    usage = Usage(prompt_tokens=0, completion_tokens=0)
    return Started(id=0, prompt_tokens=0), deltas, Ended(id=0, usage=usage, timings=Timings())


def _asked(request: ChatRequest) -> bytes:
    """Everything that decides the answer."""
    asked = msgspec.structs.replace(request, stream=None, stream_options=None, user=None)
    return hashlib.sha256(msgspec.json.encode(asked)).digest()
