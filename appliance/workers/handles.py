"""What the gateway's other rooms hold of a worker: typed calls in place of frames."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeVar

from appliance.activity import Activities, Activity
from appliance.errors import Cancelled, InternalError, Overloaded
from appliance.launch import GeneratorOrder
from appliance.records import (
    Accepted,
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
    Progress,
    Prompt,
    PromptKind,
    Rerank,
    SamplingParams,
    SchedulingClass,
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

RETRY_AFTER = 1.0
CANCELLED = "an operator ended this request"


@contextlib.contextmanager
def _opened(
    supervisor: Supervisor, make: Callable[[int], Command], activity: Activity | None = None
) -> Iterator[Stream]:
    """The stream of the command's events. Cancelling `activity` ends it."""
    if activity is not None and activity.is_cancelled:
        raise Cancelled(CANCELLED)
    id, stream = supervisor.open(make)
    if activity is not None:
        activity.phase = "queued"
        activity.end = lambda: stream.fail(Cancelled(CANCELLED))
    try:
        yield stream
    finally:
        supervisor.close(id)


async def _ask(
    supervisor: Supervisor,
    make: Callable[[int], Command],
    kind: type[Reply],
    activity: Activity | None = None,
) -> Reply:
    with _opened(supervisor, make, activity) as stream:
        (reply,) = await stream.take()
        if not isinstance(reply, kind):
            raise InternalError(f"the worker answered with {type(reply).__name__}, not {kind.__name__}")
        return reply


class Lender(Protocol):
    """Where a handle gets its worker from: ready, and staying for as long as the block lasts."""

    def lend(
        self, name: str, activity: Activity, keep_alive: float | None = None
    ) -> AbstractAsyncContextManager[Supervisor]: ...


class GeneratorHandle:
    """A chat model in a process of its own, which is started when it is not there."""

    def __init__(self, model: str, lender: Lender, activities: Activities, adapter: str = "") -> None:
        self._model, self._lender, self._activities = model, lender, activities
        self._adapter = adapter

    async def generate(
        self,
        prompt: Prompt,
        sampling: SamplingParams,
        *,
        choices: int = 1,
        constraint: Constraint | None = None,
        deadline: float | None = None,
        scheduling_class: SchedulingClass = "default",
        owner: str = "",
        namespace: str = "",
        keep_alive: float | None = None,
        on_wait: Callable[[Accepted | Progress], None] | None = None,
    ) -> AsyncGenerator[Started | list[Delta] | Ended]:
        """Started once, then deltas as they come (several at once when the reader is slow), then Ended.

        `keep_alive`: seconds that the model stays in memory unused afterwards; None: as set. `on_wait` is
        told what becomes of the request before its first delta. Leaving the iteration early cancels the
        request. Raises what the worker reports, typed.
        """

        def command(id: int) -> Generate:
            return Generate(
                id=id,
                prompt=prompt,
                sampling=sampling,
                choices=choices,
                constraint=constraint,
                deadline=deadline,
                scheduling_class=scheduling_class,
                owner=owner,
                namespace=namespace,
                adapter=self._adapter,
            )

        with self._activities.begin("generate", self._model) as activity:
            async with self._lender.lend(self._model, activity, keep_alive) as supervisor:
                _require_room(supervisor)
                with _opened(supervisor, command, activity) as stream:
                    has_started = False
                    while True:
                        events = await stream.take()
                        if on_wait is not None:
                            for event in events:
                                if isinstance(event, Accepted | Progress):
                                    on_wait(event)
                        for item in _grouped(events):
                            if isinstance(item, Started):
                                if has_started:
                                    continue  # the request was sent again after its worker died
                                has_started = True
                            self._note(item, activity)
                            yield item
                            if isinstance(item, Ended):
                                return

    def _note(self, item: Started | list[Delta] | Ended, activity: Activity) -> None:
        match item:
            case Started():
                activity.phase = "running"
                activity.prompt_tokens, activity.cached_tokens = item.prompt_tokens, item.cached_tokens
            case Ended(timings=timings):
                self._activities.count_first_token(self._model, timings.queued + timings.prefill)
            case deltas:
                self._activities.count_tokens(activity, sum(delta.tokens for delta in deltas))

    async def tokenize(self, prompt: Prompt) -> tuple[int, ...]:
        reply = await self._ask(lambda id: Tokenize(id=id, prompt=prompt), Tokens)
        return reply.tokens

    async def detokenize(self, tokens: tuple[int, ...]) -> str:
        reply = await self._ask(lambda id: Detokenize(id=id, tokens=tokens), Text)
        return reply.text

    async def _ask(self, make: Callable[[int], Command], kind: type[Reply]) -> Reply:
        with self._activities.begin("tokenize", self._model) as activity:
            async with self._lender.lend(self._model, activity) as supervisor:
                return await _ask(supervisor, make, kind, activity)


class EncoderHandle:
    """The encoder process: embeddings and rerank. A call waits up to `patience` seconds for it."""

    def __init__(self, supervisor: Supervisor, patience: float, activities: Activities) -> None:
        self.supervisor = supervisor
        self._patience, self._activities = patience, activities

    async def embed(
        self,
        model: str,
        inputs: tuple[str, ...] | tuple[tuple[int, ...], ...],
        *,
        kind: PromptKind = "passage",
        dimensions: int | None = None,
    ) -> Embeddings:
        with self._activities.begin("embed", model) as activity:
            await self.supervisor.wait_ready(self._patience)
            return await _ask(
                self.supervisor,
                lambda id: Embed(id=id, model=model, inputs=inputs, kind=kind, dimensions=dimensions),
                Embeddings,
                activity,
            )

    async def rerank(self, model: str, query: str, documents: tuple[str, ...]) -> Scores:
        with self._activities.begin("rerank", model) as activity:
            await self.supervisor.wait_ready(self._patience)
            return await _ask(
                self.supervisor,
                lambda id: Rerank(id=id, model=model, query=query, documents=documents),
                Scores,
                activity,
            )


def _require_room(supervisor: Supervisor) -> None:
    """Raises Overloaded for a request that the worker could only refuse, before it costs the worker anything.

    The worker's own count decides about all others: a request with several choices takes several slots.
    """
    order = supervisor.order
    if isinstance(order, GeneratorOrder) and supervisor.outstanding >= order.slots + order.queue_requests:
        raise Overloaded(
            f"the queue is full: {supervisor.outstanding} requests are running or waiting",
            retry_after=RETRY_AFTER,
        )


async def measure(supervisor: Supervisor) -> WorkerStats:
    """The worker's gauges; it must be ready."""
    return await _ask(supervisor, lambda id: Measure(id=id), WorkerStats)


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
