"""One worker's life, seen from the gateway: start, serve, notice its death, start it again.

Owns the process and the requests that are with it. A worker's death costs no request that has not yet
answered anything: those are sent once more to its successor; the others end in WorkerLost. It does not know
what a request means: it matches events to ids.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from appliance import errors
from appliance.launch import EncoderOrder, Order
from appliance.records import (
    Accepted,
    Cancel,
    Command,
    Embed,
    Embeddings,
    Ended,
    Event,
    Failed,
    Generate,
    Loading,
    ModelFacts,
    Progress,
    Ready,
    Rerank,
    Scores,
    Started,
    Step,
    Stop,
    Text,
    Tokens,
    WorkerStats,
)
from appliance.workers.frames import encode, read_event
from appliance.workers.process import WorkerProcess, launch

log = logging.getLogger("hearth.workers")

FIRST_BACKOFF, LAST_BACKOFF = 0.1, 10.0
# No telemetry from onnxruntime; no debugger attached by ggml when it aborts.
QUIET_LIBRARIES = {"ORT_DISABLE_TELEMETRY": "1", "GGML_NO_BACKTRACE": "1"}
LOADING_NEWS = 3.0  # seconds between two words about a load
UNTOLD_DEATHS = 2  # deaths in a row before it was ready, after which whoever waits is told
FAREWELL = 0.2  # seconds for a process to end after it has closed its channel
LOAD_SILENCE = 180.0  # seconds without a word from a worker that loads, after which it is taken for hung
# A death is bad luck, not a pattern, after a request that was answered (a request that kills is sent twice at
# most, so one that is answered was not it) or after so many seconds of life: the next worker starts at once.
HEALTHY_AFTER = 30.0


class State(Enum):
    STARTING = "starting"
    READY = "ready"
    DOWN = "down"
    STOPPED = "stopped"


class Stream:
    """The events of one request, in order, for one reader.

    Unread events pile up here at most until the request's end, so its size is bounded by the request's own
    token limit; whoever reads late gets them all at once and can merge them.
    """

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._arrival = asyncio.Event()
        self._error: errors.HearthError | None = None

    def put(self, event: Event) -> None:
        self._events.append(event)
        self._arrival.set()

    def fail(self, error: errors.HearthError) -> None:
        """The stream's last word; what came before is still delivered first."""
        self._error = error
        self._arrival.set()

    async def take(self) -> list[Event]:
        """All events since the last call; waits for one. Raises the error that ended the stream."""
        while not self._events:
            if self._error is not None:
                raise self._error
            self._arrival.clear()
            await self._arrival.wait()
        events, self._events = self._events, []
        return events


@dataclass
class _Pending:
    frame: bytes  # the command, ready to be sent, and sent again
    stream: Stream
    sends_left: int
    is_generation: bool
    has_answered: bool = False


@dataclass
class Supervisor:
    """Keeps one worker of `role` alive until `stop`."""

    role: str
    order: Order
    program: Sequence[str]
    on_change: Callable[[], None] = lambda: None
    state: State = State.DOWN
    facts: tuple[ModelFacts, ...] = ()
    loading: dict[str, float] = field(default_factory=dict)
    restarts: int = 0
    last_error: errors.HearthError | None = None
    pid: int | None = None
    _deaths_unready: int = 0  # in a row, of workers that had not become ready and told no reason
    _has_served: bool = False  # the present worker has answered a request to its end
    _loading_since: float = 0.0
    _loading_told: float = 0.0
    _worker: WorkerProcess | None = None
    _pending: dict[int, _Pending] = field(default_factory=dict)
    _ids: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    _changed: asyncio.Event = field(default_factory=asyncio.Event)  # set once, at the next change
    _life: asyncio.Task[None] | None = None
    _stopping: bool = False

    # Life

    def start(self) -> None:
        self._life = asyncio.create_task(self._live(), name=f"worker {self.role}")

    async def stop(self, patience: float) -> None:
        """Let running requests finish for up to `patience` seconds, then end the process."""
        self._stopping = True
        self._tell_change()
        if self.state is State.STARTING and not self._pending:
            self._kill()
        self._send(Stop())
        if self._life is not None:
            _, alive = await asyncio.wait({self._life}, timeout=patience)
            if alive:
                self._kill()
                await asyncio.wait(alive)
        self._set_state(State.STOPPED)
        self._fail_all(errors.Draining("the server is stopping"))

    async def _live(self) -> None:
        backoff = FIRST_BACKOFF
        while not self._stopping:
            born = time.monotonic()
            self._has_served = False
            self._set_state(State.STARTING)
            try:
                await self._serve_once()
            except OSError as error:
                self._note(errors.SetupError(f"the {self.role} worker cannot be started: {error}"))
            except errors.InternalError as error:
                log.error("the %s worker is not understood: %s", self.role, error.message)
            self._after_death()
            if self._has_served or time.monotonic() - born > HEALTHY_AFTER:
                backoff = FIRST_BACKOFF
            if not self._stopping:
                self.restarts += 1
                log.warning("the %s worker has ended; starting it again in %.1f s", self.role, backoff)
            await self._pause(backoff)
            backoff = min(backoff * 2, LAST_BACKOFF)

    async def _pause(self, seconds: float) -> None:
        """Wait, unless told to stop."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self._stopping:
                    await self._changed.wait()

    async def _serve_once(self) -> None:
        environment = os.environ | QUIET_LIBRARIES
        self._worker = worker = await launch(self.program, self.role, environment)
        self.pid = worker.process.pid
        worker.writer.write(encode(self.order))
        if self._stopping:
            self._kill()  # told to stop while it was being born
        try:
            while (event := await self._next_event(worker)) is not None:
                self._receive(event)
        finally:
            if not self._stopping:
                # It closed its channel: whatever it still does helps nobody. Most are gone by then, and to
                # signal one that is costs asyncio its exit status.
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(worker.process.wait(), FAREWELL)
                self._kill()
            status = await worker.process.wait()
            worker.writer.close()
            if self.state is State.STARTING and self.last_error is None and not self._stopping:
                self._count_unready_death(status)

    async def _next_event(self, worker: WorkerProcess) -> Event | None:
        """None when the worker has left, or has loaded without a word for so long that it must be hung."""
        if self.state is State.READY:
            return await read_event(worker.reader)
        try:
            async with asyncio.timeout(LOAD_SILENCE):
                return await read_event(worker.reader)
        except TimeoutError:
            self._note(errors.SetupError(f"{self._names} did not load: not a word in {LOAD_SILENCE:.0f} s"))
            return None

    def _count_unready_death(self, status: int) -> None:
        """One may be chance; after several the model itself must be what kills its worker."""
        self._deaths_unready += 1
        if self._deaths_unready >= UNTOLD_DEATHS:
            how = f"by signal {-status}" if status < 0 else f"with status {status}"
            self._note(
                errors.SetupError(
                    f"{self._names} cannot be loaded: its process ended {how} before it was ready, "
                    f"{self._deaths_unready} times in a row; the file may be damaged or unsupported",
                    code=errors.WorkerLost.code,
                )
            )

    @property
    def _names(self) -> str:
        return ", ".join(self.model_names)

    def _kill(self) -> None:
        if self._worker is not None and self._worker.process.returncode is None:
            self._worker.process.kill()

    def _after_death(self) -> None:
        self._worker, self.pid, self.facts = None, None, ()
        self.loading.clear()
        self._set_state(State.DOWN)
        if self.last_error is not None:
            self._fail_all(errors.Unavailable(self.last_error.message, retry_after=LAST_BACKOFF))
        for id, pending in list(self._pending.items()):
            if pending.has_answered or pending.sends_left == 0 or self._stopping:
                del self._pending[id]
                pending.stream.fail(
                    errors.WorkerLost("the model's process ended while it was answering", retry_after=1.0)
                )

    def abandon(self, error: errors.HearthError) -> None:
        """End every request that is with the worker."""
        for id in self._pending:
            self._send(Cancel(id=id))
        self._fail_all(error)

    def _fail_all(self, error: errors.HearthError) -> None:
        for pending in self._pending.values():
            pending.stream.fail(error)
        self._pending.clear()

    def _note(self, error: errors.HearthError) -> None:
        """Why the worker cannot serve; whoever asks until it can is told."""
        self.last_error = error
        log.error("the %s worker cannot serve: %s", self.role, error.message)

    def _set_state(self, state: State) -> None:
        self.state = state
        self._tell_change()

    def _tell_change(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
        self.on_change()

    # Requests

    async def wait_ready(self, patience: float) -> None:
        """Raises ModelLoading when the worker is not ready within `patience` seconds; at once, Unavailable
        when its last start failed for a reason it could tell, and Draining when it is being stopped."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while self.state is not State.READY:
                    if self._stopping:
                        raise errors.Draining("the server is stopping", retry_after=1.0)
                    if self.last_error is not None:
                        raise errors.Unavailable(self.last_error.message, retry_after=LAST_BACKOFF)
                    await self._changed.wait()
        if self.state is not State.READY:
            done = min(self.loading.values(), default=0.0)
            raise errors.ModelLoading(
                f"{self._names} is loading ({done:.0%} done); try again shortly", retry_after=2.0
            )

    def open(self, make: Callable[[int], Command]) -> tuple[int, Stream]:
        """Send the command that `make` builds around a fresh id; its events come through the stream.

        Raises Draining, and what `encode` raises.
        """
        if self._stopping:
            raise errors.Draining("the server is stopping", retry_after=1.0)
        id = next(self._ids)
        command = make(id)
        sends = 2 if isinstance(command, Generate | Embed | Rerank) else 1
        is_generation = isinstance(command, Generate)
        pending = self._pending[id] = _Pending(encode(command), Stream(), sends, is_generation)
        if self.state is State.READY:
            self._send_request(pending)
        return id, pending.stream

    def close(self, id: int) -> None:
        """The reader of `id` has left; the worker is told unless the request has ended already."""
        if self._pending.pop(id, None) is not None and self.state is State.READY:
            self._send(Cancel(id=id))

    def _send_request(self, pending: _Pending) -> None:
        pending.sends_left -= 1
        self._write(pending.frame)

    def _send(self, command: Command) -> None:
        self._write(encode(command))

    def _write(self, frame: bytes) -> None:
        if self._worker is not None and not self._worker.writer.is_closing():
            self._worker.writer.write(frame)

    # Events

    def _receive(self, event: Event) -> None:
        match event:
            case Step(deltas=deltas):
                per_request: dict[int, list[Step]] = {}
                for delta in deltas:
                    per_request.setdefault(delta.id, []).append(Step(deltas=(delta,)))
                for id, steps in per_request.items():
                    for step in steps:
                        self._deliver(id, step)
            case Loading(model=model, fraction=fraction):
                self._note_loading(model, fraction)
            case Ready(models=models):
                self._become_ready(models)
            case Failed(id=0, error=error):
                self._note(errors.unpack(error))
            case Failed(id=id, error=error):
                if (pending := self._pending.pop(id, None)) is not None:
                    pending.stream.fail(errors.unpack(error))
            case Accepted(id=id) | Progress(id=id) | Started(id=id):
                self._deliver(id, event, answers=False)
            case WorkerStats(id=id):
                self._deliver(id, event)
                self._pending.pop(id, None)
            case Ended(id=id) | Tokens(id=id) | Text(id=id) | Embeddings(id=id) | Scores(id=id):
                self._has_served = True
                self._deliver(id, event)
                self._pending.pop(id, None)

    def _deliver(self, id: int, event: Event, *, answers: bool = True) -> None:
        pending = self._pending.get(id)
        if pending is not None:
            pending.has_answered = pending.has_answered or answers
            pending.stream.put(event)

    def _note_loading(self, model: str, fraction: float) -> None:
        """A load that takes its time says so, with the time left."""
        now = time.monotonic()
        if model not in self.loading:
            self._loading_since = self._loading_told = now
        self.loading[model] = fraction
        if now - self._loading_told > LOADING_NEWS and fraction > 0:
            self._loading_told = now
            left = (now - self._loading_since) * (1 - fraction) / fraction
            log.info("loading %s: %.0f %%, about %.0f s left", model, 100 * fraction, left)

    def _become_ready(self, models: tuple[ModelFacts, ...]) -> None:
        self.facts, self.last_error, self._deaths_unready = models, None, 0
        for facts in models:
            log.info("%s is ready after %.1f s", facts.name, facts.load_seconds)
        self._set_state(State.READY)
        for pending in self._pending.values():  # left over from the last life, or come while loading
            self._send_request(pending)

    @property
    def outstanding(self) -> int:
        """Requests for text that are with this worker now."""
        return sum(pending.is_generation for pending in self._pending.values())

    @property
    def model_names(self) -> tuple[str, ...]:
        if isinstance(self.order, EncoderOrder):
            return tuple(model.name for model in self.order.models)
        return (self.order.name,)
