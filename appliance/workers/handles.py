"""What the gateway's other rooms hold of a worker: typed calls in place of frames."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import TypeVar

from appliance.errors import InternalError
from appliance.records import (
    Command,
    Constraint,
    Delta,
    Detokenize,
    Embed,
    Embeddings,
    Ended,
    Event,
    Generate,
    Measure,
    Prompt,
    PromptKind,
    Rerank,
    SamplingParams,
    Scores,
    Started,
    Step,
    Text,
    Tokenize,
    Tokens,
    WorkerStats,
)
from appliance.workers.supervisor import Stream, Supervisor

Reply = TypeVar("Reply")


@contextlib.contextmanager
def _opened(supervisor: Supervisor, make: Callable[[int], Command]) -> Iterator[Stream]:
    id, stream = supervisor.open(make)
    try:
        yield stream
    finally:
        supervisor.close(id)


async def _ask(supervisor: Supervisor, make: Callable[[int], Command], kind: type[Reply]) -> Reply:
    with _opened(supervisor, make) as stream:
        (reply,) = await stream.take()
        if not isinstance(reply, kind):
            raise InternalError(f"the worker answered with {type(reply).__name__}, not {kind.__name__}")
        return reply


class GeneratorHandle:
    """A chat model in its own process. Every call waits at most `patience` seconds for it to be ready."""

    def __init__(self, supervisor: Supervisor, patience: float) -> None:
        self.supervisor = supervisor
        self._patience = patience

    async def generate(
        self,
        prompt: Prompt,
        sampling: SamplingParams,
        *,
        choices: int = 1,
        constraint: Constraint | None = None,
        deadline: float | None = None,
    ) -> AsyncGenerator[Started | list[Delta] | Ended]:
        """Started once, then deltas as they come (several at once when the reader is slow), then Ended.

        Leaving the iteration early cancels the request. Raises what the worker reports, typed.
        """
        await self.supervisor.wait_ready(self._patience)

        def command(id: int) -> Generate:
            return Generate(
                id=id,
                prompt=prompt,
                sampling=sampling,
                choices=choices,
                constraint=constraint,
                deadline=deadline,
            )

        with _opened(self.supervisor, command) as stream:
            has_started = False
            while True:
                for item in _grouped(await stream.take()):
                    if isinstance(item, Started):
                        if has_started:
                            continue  # the request was sent again after its worker died
                        has_started = True
                    yield item
                    if isinstance(item, Ended):
                        return

    async def tokenize(self, prompt: Prompt) -> tuple[int, ...]:
        await self.supervisor.wait_ready(self._patience)
        reply = await _ask(self.supervisor, lambda id: Tokenize(id=id, prompt=prompt), Tokens)
        return reply.tokens

    async def detokenize(self, tokens: tuple[int, ...]) -> str:
        await self.supervisor.wait_ready(self._patience)
        reply = await _ask(self.supervisor, lambda id: Detokenize(id=id, tokens=tokens), Text)
        return reply.text

    async def measure(self) -> WorkerStats:
        return await _ask(self.supervisor, lambda id: Measure(id=id), WorkerStats)


class EncoderHandle:
    """The encoder process: embeddings and rerank."""

    def __init__(self, supervisor: Supervisor, patience: float) -> None:
        self.supervisor = supervisor
        self._patience = patience

    async def embed(
        self,
        model: str,
        inputs: tuple[str, ...] | tuple[tuple[int, ...], ...],
        *,
        kind: PromptKind = "passage",
        dimensions: int | None = None,
    ) -> Embeddings:
        await self.supervisor.wait_ready(self._patience)
        return await _ask(
            self.supervisor,
            lambda id: Embed(id=id, model=model, inputs=inputs, kind=kind, dimensions=dimensions),
            Embeddings,
        )

    async def rerank(self, model: str, query: str, documents: tuple[str, ...]) -> Scores:
        await self.supervisor.wait_ready(self._patience)
        return await _ask(
            self.supervisor,
            lambda id: Rerank(id=id, model=model, query=query, documents=documents),
            Scores,
        )

    async def measure(self) -> WorkerStats:
        return await _ask(self.supervisor, lambda id: Measure(id=id), WorkerStats)


def _grouped(events: list[Event]) -> Iterator[Started | list[Delta] | Ended]:
    """The same events, with neighbouring steps joined into one list of deltas."""
    joined: list[Delta] = []
    for event in events:
        if isinstance(event, Step):
            joined.extend(event.deltas)
            continue
        if joined:
            yield joined
            joined = []
        if isinstance(event, Started | Ended):
            yield event
    if joined:
        yield joined
