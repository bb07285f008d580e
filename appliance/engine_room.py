"""From a launch order to an engine that runs: the model, its cache, who drafts for it, what it has kept.

Knows llama.cpp's settings and the order's; not the process's life, nor where requests come from.
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import psutil

from appliance import errors
from appliance.launch import GeneratorOrder
from appliance.llm import bindings, native
from appliance.llm.block_store import BlockStore
from appliance.llm.blocks import BlockTree
from appliance.llm.cores import usable_cores
from appliance.llm.draft import MOST_ROWS, PromptLookup, StartDrafter
from appliance.llm.draft_model import READ_AT_ONCE, DraftModel
from appliance.llm.engine import Engine
from appliance.llm.plan import Limits
from appliance.llm.scheduler import Scheduler
from appliance.records import Event, Loading, ModelFacts

DEFAULT_CELLS = 8192
PROGRESS_STEP = 0.02
RETRY_AFTER = 1.0
BUSY_PREFILL_SHARE = 4  # while others decode, a step prefills 1/4 of batch_tokens, and more where many wait

Emit = Callable[[Event], None]


def load(order: GeneratorOrder, emit: Emit) -> tuple[native.LlamaBackend, ModelFacts]:
    """Load the model and size its cache, reporting progress. Raises SetupError."""
    begun = time.monotonic()
    bindings.load_compute_backends()
    report = _progress(order.name, emit)
    cells = order.cells or min(DEFAULT_CELLS, order.context_length or DEFAULT_CELLS)
    backend = native.LlamaBackend(order, cells, report)
    trained = backend.model.trained_context
    facts = ModelFacts(
        name=order.name,
        role="chat",
        context_length=min(order.context_length or trained, trained, backend.cells),
        vocabulary=backend.vocabulary.size,
        parameters=backend.model.parameters,
        weight_bytes=backend.model.weight_bytes,
        cache_bytes=0,
        backend="; ".join(bindings.compute_devices()),
        load_seconds=time.monotonic() - begun,
    )
    return backend, facts


def load_draft_model(order: GeneratorOrder, backend: native.LlamaBackend) -> DraftModel | None:
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
        cell_bytes=file.cell_bytes,
        slots=MOST_ROWS,
        batch_tokens=READ_AT_ONCE,
        adapters=(),
    )
    small = native.LlamaBackend(own, backend.cells, lambda fraction: None)
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
    backend: native.LlamaBackend,
    emit: Emit,
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
        emit,
        start_drafter=choose_drafter(order, draft_model),
        store=open_store(order, backend),
        ends_circles=order.end_circles,
        fingerprint=fingerprint(order),
    )
    engine.start_apart = lambda: start_apart(engine, order, backend)
    return engine


def open_store(order: GeneratorOrder, backend: native.LlamaBackend) -> BlockStore:
    """Where prefixes are kept. Its fingerprint holds all that decides what a cache's bytes mean."""
    if not order.prefix_disk or not order.prefix_directory:
        return BlockStore(None)
    parts = (
        order.fingerprint,
        order.cache_type,
        order.flash_attention,
        str(order.repack),
        backend.model.description,
        bindings.version(),
    )
    return BlockStore(Path(order.prefix_directory), "\n".join(parts).encode())


def start_apart(engine: Engine, order: GeneratorOrder, backend: native.LlamaBackend) -> Engine:
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
        own = native.LlamaBackend(
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
        ends_circles=order.end_circles,
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


def _progress(name: str, emit: Emit) -> Callable[[float], None]:
    reported = -1.0

    def report(fraction: float) -> None:
        nonlocal reported
        if fraction - reported >= PROGRESS_STEP or fraction >= 1.0:
            reported = fraction
            emit(Loading(model=name, fraction=fraction))

    return report
