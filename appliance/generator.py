"""The generator process, from its first breath to its last: load, serve, drain, exit.

Three threads: this module's reader takes commands off the channel; the preparing thread renders templates and
tokenises; the main thread is the engine's. The process is a crash boundary: whatever kills it, the gateway
starts it anew.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import logging
import queue
import socket
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import psutil

from appliance import errors, memory
from appliance.llm import bindings
from appliance.llm.block_store import BlockStore
from appliance.llm.blocks import BlockTree
from appliance.llm.cores import usable_cores
from appliance.llm.draft import MOST_ROWS, PromptLookup, StartDrafter
from appliance.llm.draft_model import READ_AT_ONCE, DraftModel
from appliance.llm.engine import Admit, Engine
from appliance.llm.plan import Limits
from appliance.llm.prepare import Preparer
from appliance.llm.scheduler import Scheduler
from appliance.records import (
    Cancel,
    Command,
    Detokenize,
    Failed,
    Generate,
    GeneratorOrder,
    Loading,
    Measure,
    ModelFacts,
    Ready,
    Stop,
    Text,
    Tokenize,
    Tokens,
)
from appliance.workers.frames import WorkerChannel

log = logging.getLogger("hearth.generator")

DEFAULT_CELLS = 8192
PROGRESS_STEP = 0.02
RETRY_AFTER = 1.0
BUSY_PREFILL_SHARE = 4  # while others decode, a step prefills at most 1/4 of batch_tokens

Preparable = Generate | Tokenize | Detokenize


class Preparation:
    """The thread that turns requests into tokens, and the memory of who left before it got to them."""

    def __init__(
        self,
        preparer: Preparer,
        engine: Engine,
        channel: WorkerChannel,
        limit: int,
        refused_adapters: Mapping[str, str] | None = None,
    ) -> None:
        self._limit = limit
        self._refused_adapters = refused_adapters or {}  # and why
        self._preparer, self._engine, self._channel = preparer, engine, channel
        self._inbox: queue.SimpleQueue[tuple[Preparable, float] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._cancelled: dict[int, bool] = {}  # requests not yet handed to the engine → cancelled?
        self._thread = threading.Thread(target=self._run, name="prepare", daemon=True)
        self._thread.start()

    def submit(self, command: Preparable) -> None:
        """Take the request in, or answer at once that there are too many."""
        with self._lock:
            has_room = len(self._cancelled) < self._limit
            if has_room:
                self._cancelled[command.id] = False
        if has_room:
            self._inbox.put((command, time.monotonic()))
            return
        error = errors.Overloaded(
            f"the queue is full: {self._limit} requests wait to be prepared", retry_after=RETRY_AFTER
        )
        self._channel.send(Failed(id=command.id, error=errors.pack(error)))

    def cancel(self, command: Cancel) -> None:
        with self._lock:
            if command.id in self._cancelled:
                self._cancelled[command.id] = True
            else:
                self._engine.inbox.put(command)

    def finish(self) -> None:
        """Returns when everything submitted so far has been handed on."""
        self._inbox.put(None)
        self._thread.join()

    def _run(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            while (item := self._inbox.get()) is not None:
                command, arrived = item
                if (error := self._attempt(command, arrived)) is not None:
                    self._forget(command.id)
                    self._channel.send(Failed(id=command.id, error=errors.pack(error)))

    def _attempt(self, command: Preparable, arrived: float) -> errors.HearthError | None:
        """Why the request cannot be prepared, if it cannot. A bug that one meets must not end all others."""
        try:
            self._prepare(command, arrived)
        except errors.HearthError as error:
            return error
        except BrokenPipeError:
            raise
        except Exception:
            log.exception("the request %d cannot be prepared", command.id)
            return errors.InternalError("the request met a bug of the server, whose log has the details")
        return None

    def _prepare(self, command: Preparable, arrived: float) -> None:
        if self._cancelled.get(command.id):
            raise errors.Cancelled("the request was cancelled")
        match command:
            case Generate():
                if command.adapter in self._refused_adapters:
                    reason = self._refused_adapters[command.adapter]
                    raise errors.Unavailable(f"the adapter {command.adapter} cannot be used: {reason}")
                self._hand_over(self._preparer.admit(command, arrived=arrived))
            case Tokenize(id=id, prompt=prompt):
                self._forget(id)
                self._channel.send(Tokens(id=id, tokens=tuple(self._preparer.tokenize(prompt))))
            case Detokenize(id=id, tokens=tokens):
                self._forget(id)
                self._channel.send(Text(id=id, text=self._preparer.detokenize(tokens)))

    def _hand_over(self, admit: Admit) -> None:
        with self._lock:
            if self._cancelled.pop(admit.id):
                self._channel.send(
                    Failed(id=admit.id, error=errors.pack(errors.Cancelled("the request was cancelled")))
                )
            else:
                self._engine.inbox.put(admit)

    def _forget(self, id: int) -> None:
        with self._lock:
            self._cancelled.pop(id, None)


def run(connection: socket.socket) -> int:
    """Serve until told to stop, or until the gateway is gone. Returns the exit status."""
    try:
        return serve(WorkerChannel(connection))
    except (BrokenPipeError, EOFError):
        return 0  # the gateway is gone; nobody is left to serve


def serve(channel: WorkerChannel) -> int:
    """Raises BrokenPipeError or EOFError when the gateway leaves."""
    order = channel.read_order()
    assert isinstance(order, GeneratorOrder)
    try:
        backend, facts = load(order, channel)
        draft_model = load_draft_model(order, backend)
    except errors.HearthError as error:
        channel.send(Failed(id=0, error=errors.pack(error)))
        return 1
    engine = build_engine(order, backend, channel, draft_model)
    preparer = Preparer(
        backend.vocabulary,
        context_length=facts.context_length,
        chat_template=order.chat_template,
        seconds_per_template=order.seconds_per_template,
    )
    memory.give_back()
    channel.send(Ready(models=(facts,)))
    most = order.slots + order.queue_requests
    preparation = Preparation(preparer, engine, channel, most, backend.refused_adapters)
    reader = threading.Thread(
        target=read_commands,
        args=(channel, preparation, engine),
        daemon=True,
    )
    reader.start()
    engine.run()
    if draft_model is not None:
        draft_model.close()
    backend.close()
    return 0


def load(order: GeneratorOrder, channel: WorkerChannel) -> tuple[bindings.LlamaBackend, ModelFacts]:
    """Load the model and size its cache, reporting progress. Raises SetupError."""
    begun = time.monotonic()
    bindings.load_compute_backends()
    report = _progress(order.name, channel)
    cells = order.cells or min(DEFAULT_CELLS, order.context_length or DEFAULT_CELLS)
    backend = bindings.LlamaBackend(order, cells, report)
    trained = backend.trained_context
    facts = ModelFacts(
        name=order.name,
        role="chat",
        context_length=min(order.context_length or trained, trained, backend.cells),
        vocabulary=backend.vocabulary.size,
        parameters=backend.parameters,
        weight_bytes=backend.weight_bytes,
        cache_bytes=0,
        backend="; ".join(bindings.compute_devices()),
        load_seconds=time.monotonic() - begun,
    )
    return backend, facts


def load_draft_model(order: GeneratorOrder, backend: bindings.LlamaBackend) -> DraftModel | None:
    """Raises SetupError when it cannot be loaded, or does not have the very vocabulary of `backend`."""
    if order.draft_model is None:
        return None
    file = order.draft_model
    own = msgspec.structs.replace(
        order,
        name=file.name,
        weights=file.weights,
        weights_offset=file.offset,
        weights_bytes=file.bytes,
        slots=MOST_ROWS,
        batch_tokens=READ_AT_ONCE,
        adapters=(),
    )
    small = bindings.LlamaBackend(own, backend.cells, lambda fraction: None)
    if small.vocabulary.digest() != backend.vocabulary.digest():
        small.close()
        raise errors.SetupError(
            f"generator.draft_models has {file.name} draft for {order.name}, but its vocabulary is another"
        )
    return DraftModel(small)


def choose_drafter(order: GeneratorOrder, draft_model: DraftModel | None) -> StartDrafter | None:
    if not order.draft:
        return None
    return PromptLookup if draft_model is None else draft_model.start


def build_engine(
    order: GeneratorOrder,
    backend: bindings.LlamaBackend,
    channel: WorkerChannel,
    draft_model: DraftModel | None = None,
) -> Engine:
    limits = Limits(
        slots=order.slots,
        cells=backend.cells,
        sequences=backend.sequences,
        batch_tokens=backend.batch_tokens,
        busy_prefill_tokens=max(1, backend.batch_tokens // BUSY_PREFILL_SHARE),
        queue_requests=order.queue_requests,
        queue_tokens=order.queue_tokens,
    )
    engine = Engine(
        backend,
        Scheduler(limits, BlockTree(memory_bytes=order.prefix_memory, disk_bytes=order.prefix_disk)),
        channel.send,
        start_drafter=choose_drafter(order, draft_model),
        store=open_store(order, backend),
        fingerprint=fingerprint(order),
    )
    engine.start_apart = lambda: start_apart(engine, order, backend)
    return engine


def open_store(order: GeneratorOrder, backend: bindings.LlamaBackend) -> BlockStore:
    """Where prefixes are kept. Its fingerprint holds all that decides what a cache's bytes mean."""
    if not order.prefix_disk or not order.prefix_directory:
        return BlockStore(None)
    parts = (
        order.fingerprint,
        order.cache_type,
        order.flash_attention,
        str(order.repack),
        backend.description,
        bindings.version(),
    )
    return BlockStore(Path(order.prefix_directory), "\n".join(parts).encode())


def start_apart(engine: Engine, order: GeneratorOrder, backend: bindings.LlamaBackend) -> Engine:
    """An engine with a cache of its own, for one sequence at a time whose prompt is computed in fixed pieces.

    How a sum is rounded depends on how many tokens are computed together, on where in the cache the keys
    stand and on what was cached before: here all of that depends on the request alone. Raises Unavailable
    when there is no memory for a second cache.
    """
    piece = max(1, backend.batch_tokens // BUSY_PREFILL_SHARE)
    needed, free = backend.cells * order.cell_bytes, psutil.virtual_memory().available
    if needed > free:
        raise errors.Unavailable(
            f"a deterministic answer needs a cache of its own of {needed >> 20} MiB, but only "
            f"{free >> 20} MiB of memory are free; lower generator.cells",
            retry_after=RETRY_AFTER,
        )
    try:
        own = bindings.LlamaBackend(
            msgspec.structs.replace(order, batch_tokens=piece), backend.cells, lambda fraction: None, backend
        )
    except errors.SetupError as error:
        raise errors.Unavailable(error.message, retry_after=RETRY_AFTER) from error
    limits = dataclasses.replace(
        engine.scheduler.limits, slots=1, batch_tokens=own.batch_tokens, busy_prefill_tokens=own.batch_tokens
    )
    return Engine(
        own,
        Scheduler(limits),
        engine.emit,
        totals=engine.totals,
        start_drafter=PromptLookup if order.draft else None,
        retains=False,
        fingerprint=engine.fingerprint,
    )


def fingerprint(order: GeneratorOrder) -> str:
    """Of all that decides which text the same request gets: weights, arithmetic and its settings."""
    facts = (
        order.name,
        order.weights_bytes,
        order.threads or usable_cores(),
        order.batch_tokens,
        order.cells,
        order.cache_type,
        order.flash_attention,
        order.repack,
        order.draft,
        order.draft_model.name if order.draft_model else None,
        bindings.version(),
        bindings.system_info(),
    )
    return "fp_" + hashlib.sha256(repr(facts).encode()).hexdigest()[:12]


def read_commands(channel: WorkerChannel, preparation: Preparation, engine: Engine) -> None:
    """Sort commands to where they belong, until the gateway leaves, says stop or is not understood."""
    try:
        for command in channel.commands():
            if isinstance(command, Stop):
                break
            _route(command, preparation, engine)
    finally:
        preparation.finish()
        engine.inbox.put(Stop())


def _route(command: Command, preparation: Preparation, engine: Engine) -> None:
    match command:
        case Generate() | Tokenize() | Detokenize():
            preparation.submit(command)
        case Cancel():
            preparation.cancel(command)
        case Measure():
            engine.inbox.put(command)
        case _:
            log.error("a generator has no use for the command %s", type(command).__name__)


def _progress(name: str, channel: WorkerChannel) -> Callable[[float], None]:
    reported = -1.0

    def report(fraction: float) -> None:
        nonlocal reported
        if fraction - reported >= PROGRESS_STEP or fraction >= 1.0:
            reported = fraction
            channel.send(Loading(model=name, fraction=fraction))

    return report
