"""The encoder process, from its first breath to its last: load, serve, drain, exit.

Two threads. A reader takes commands off the channel into a bounded inbox; when that is full it waits, and
the gateway feels it. The main thread owns everything else: inbox → tokenise → queue → run a batch → reply.
Every command with an id is answered exactly once. The process is a crash boundary: whatever kills it, the
gateway starts it anew.
"""

from __future__ import annotations

import logging
import os
import queue
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from appliance import errors, memory
from appliance.encoders.embed import Embedder
from appliance.encoders.queue import Batch, BatchQueue, Place
from appliance.encoders.rerank import Reranker
from appliance.encoders.work import Work
from appliance.launch import EncoderModel, EncoderOrder
from appliance.records import (
    Cancel,
    Command,
    Detokenize,
    Embed,
    Event,
    Failed,
    Generate,
    Loading,
    Measure,
    Ready,
    Rerank,
    Stop,
    Tokenize,
    WorkerStats,
)
from appliance.workers.frames import WorkerChannel

log = logging.getLogger("hearth.encoder")

BATCH_TOKENS_PER_THREAD = 256
LEAST_BATCH_TOKENS = 512

SIBLINGS = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"

Encoder = Embedder | Reranker


@dataclass(frozen=True)
class Hangup:
    """The reader's last word: the gateway closed the channel, or sent what is no command."""

    status: int


class Job:
    """An accepted request on its way: its rows and the results that are in."""

    def __init__(self, command: Embed | Rerank, encoder: Encoder, work: Work) -> None:
        self.command, self.encoder, self.work = command, encoder, work
        self._results: NDArray[np.float32] | None = None

    def put(self, index: int, result: NDArray[np.float32]) -> None:
        if self._results is None:
            self._results = np.empty((len(self.work.rows), len(result)), np.float32)
        self._results[index] = result

    def reply(self) -> Event:
        """The answer; every row's result must be in."""
        results = np.empty((0, 1), np.float32) if self._results is None else self._results
        match self.command, self.encoder:
            case Embed() as command, Embedder() as encoder:
                return encoder.reply(command, self.work, results)
            case Rerank() as command, Reranker() as encoder:
                return encoder.reply(command, self.work, results)
        raise AssertionError("a job's encoder fits its command")


class Server:
    """The main thread's state: who waits, and what has been done."""

    def __init__(
        self, order: EncoderOrder, encoders: dict[str, Encoder], send: Callable[[Event], None]
    ) -> None:
        self.inbox: queue.Queue[Command | Hangup] = queue.Queue(maxsize=order.queue_requests)
        self._encoders, self._send = encoders, send
        self._max_requests, self._max_tokens = order.queue_requests, order.queue_tokens
        self._queue = BatchQueue(
            batch_tokens=order.batch_tokens or default_batch_tokens(order.threads or usable_cores()),
            requests=order.queue_requests,
            tokens=order.queue_tokens,
        )
        self._jobs: dict[int, Job] = {}
        self._tokens_done = self._batches_done = 0
        self._draining = False
        self._hangup: Hangup | None = None

    def serve(self) -> int:
        """Until stopped and drained, or until the gateway is gone. Returns the exit status."""
        while True:
            if not self._jobs and not self._draining:
                self._handle(self.inbox.get())
            for _ in range(self.inbox.qsize()):
                self._handle(self.inbox.get())
            if self._hangup is not None:
                return self._hangup.status
            if self._draining and not self._jobs:
                return 0
            batch = self._queue.next_batch()
            if batch is not None:
                self._compute(batch)

    def _handle(self, command: Command | Hangup) -> None:
        match command:
            case Embed() | Rerank():
                self._accept(command)
            case Cancel(id=id):
                self._cancel(id)
            case Measure(id=id):
                self._send(self._stats(id))
            case Stop():
                self._draining = True
            case Hangup():
                self._hangup = command
            case Generate(id=id) | Tokenize(id=id) | Detokenize(id=id):
                wrong = errors.InternalError(f"the encoder was sent a {type(command).__name__}")
                self._fail(id, wrong)

    def _accept(self, command: Embed | Rerank) -> None:
        try:
            if self._draining:
                raise errors.Draining("the server is stopping and takes no new requests")
            self._queue.check_room()  # before the work of tokenising
            job = self._prepare(command)
            if job.work.rows:
                self._queue.admit(command.id, command.model, [len(row) for row in job.work.rows])
                self._jobs[command.id] = job
            else:
                self._send(job.reply())
        except errors.HearthError as error:
            self._fail(command.id, error)

    def _prepare(self, command: Embed | Rerank) -> Job:
        match command, self._encoders.get(command.model):
            case Embed() as embed, Embedder() as encoder:
                return Job(embed, encoder, encoder.prepare(embed))
            case Rerank() as rerank, Reranker() as encoder:
                return Job(rerank, encoder, encoder.prepare(rerank))
            case _, None:
                raise errors.ModelNotFound(f"the encoder has no model {command.model}", param="model")
        other = "reranks" if isinstance(command, Embed) else "embeds"
        raise errors.InvalidValue(f"the model {command.model} only {other}", param="model")

    def _cancel(self, id: int) -> None:
        if self._queue.cancel(id):
            del self._jobs[id]
            self._fail(id, errors.Cancelled("the request was cancelled"))

    def _compute(self, batch: Batch) -> None:
        begun = time.monotonic()
        try:
            self._run(batch.places)
        except errors.InternalError as error:
            self._isolate(batch, error)
        self._queue.observe(batch.padded_tokens, time.monotonic() - begun)
        self._batches_done += 1
        for id in self._queue.settle(batch):
            job = self._jobs.pop(id)
            self._tokens_done += job.work.tokens
            self._send(job.reply())

    def _run(self, places: tuple[Place, ...]) -> None:
        rows = [self._jobs[place.request].work.rows[place.index] for place in places]
        results = self._jobs[places[0].request].encoder.run(rows)
        for place, result in zip(places, results, strict=True):
            self._jobs[place.request].put(place.index, result)

    def _isolate(self, batch: Batch, error: errors.InternalError) -> None:
        """A batch failed: run each request's part alone, so that only those at fault end."""
        requests = dict.fromkeys(place.request for place in batch.places)
        for request in requests:
            try:
                if len(requests) == 1:
                    raise error
                self._run(tuple(place for place in batch.places if place.request == request))
            except errors.InternalError as own:
                log.error("request %d failed: %s", request, own.message)
                self._queue.cancel(request)
                del self._jobs[request]
                self._fail(request, own)

    def _fail(self, id: int, error: errors.HearthError) -> None:
        self._send(Failed(id=id, error=errors.pack(error)))

    def _stats(self, id: int) -> WorkerStats:
        return WorkerStats(
            id=id,
            running=len(self._jobs),
            waiting=self._queue.waiting_rows,
            slots=self._max_requests,
            cells_used=self._queue.waiting_tokens,
            cells=self._max_tokens,
            prompt_tokens=self._tokens_done,
            steps=self._batches_done,
        )


def run(connection: socket.socket) -> int:
    """Serve until told to stop, or until the gateway is gone. Returns the exit status.

    A model that cannot be loaded is told as Failed with the id 0, and status 1.
    """
    channel = WorkerChannel(connection)
    try:
        order = channel.read_order()
    except EOFError:
        return 0
    assert isinstance(order, EncoderOrder)
    try:
        try:
            encoders = load(order, channel.send)
        except errors.HearthError as error:
            channel.send(Failed(id=0, error=errors.pack(error)))
            return 1
        server = Server(order, encoders, channel.send)
        memory.give_back()
        channel.send(Ready(models=tuple(encoder.facts for encoder in encoders.values())))
        threading.Thread(
            target=read_commands, args=(channel, server.inbox), name="reader", daemon=True
        ).start()
        return server.serve()
    except BrokenPipeError:
        return 0  # the gateway is gone; nobody is left to serve


def load(order: EncoderOrder, send: Callable[[Event], None]) -> dict[str, Encoder]:
    """All models of the order by name, each announced before and after. Raises SetupError."""
    encoders: dict[str, Encoder] = {}
    for model in order.models:
        if model.name in encoders:
            raise errors.SetupError(f"the encoder was given two models named {model.name}")
        send(Loading(model=model.name, fraction=0.0))
        encoders[model.name] = _load_one(model, order.threads or usable_cores())
        send(Loading(model=model.name, fraction=1.0))
    return encoders


def read_commands(channel: WorkerChannel, inbox: queue.Queue[Command | Hangup]) -> None:
    """The reader thread: pass commands on until the channel ends, then say so."""
    status = 0
    try:
        for command in channel.commands():
            inbox.put(command)
    except ConnectionError:
        pass  # the gateway died rather than hung up
    except Exception:
        log.exception("the gateway sent what is no command")
        status = 1
    inbox.put(Hangup(status))


def usable_cores() -> int:
    """Physical cores this process may run on: hyperthreads of one core share the units that matter here.

    Source: thread_siblings_list in the kernel's Documentation/admin-guide/cputopology.rst.
    """
    allowed = os.sched_getaffinity(0)
    try:
        cores = {Path(SIBLINGS.format(cpu)).read_text() for cpu in allowed}
    except OSError:
        return len(allowed)
    return len(cores)


def default_batch_tokens(threads: int) -> int:
    """Enough rows to keep the threads busy, few enough to stay in the processor's cache."""
    return max(LEAST_BATCH_TOKENS, BATCH_TOKENS_PER_THREAD * threads)


def _load_one(model: EncoderModel, threads: int) -> Encoder:
    match model.role:
        case "embed":
            return Embedder(model, threads)
        case "rerank":
            return Reranker(model, threads)
    raise errors.SetupError(f"{model.name}: an encoder serves models that embed or rerank, not {model.role}")
