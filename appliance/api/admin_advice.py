"""What is not as it should be, and what to do about it: rules over a server's status, pure and in order of
weight."""

from __future__ import annotations

from collections.abc import Iterator

from appliance.admin import Advice, ModelStatus, ServerStatus, WorkerStatus
from appliance.config.schema import Settings

MIB = 1024 * 1024
LITTLE_MEMORY = 512 * MIB
FULL_QUEUE_SHARE = 0.8
FULL_CACHE_SHARE = 0.95


def advice(status: ServerStatus, settings: Settings) -> Iterator[Advice]:
    """Problems first, then warnings."""
    found = [
        *(each for model in status.models for each in _of_model(model)),
        *(each for worker in status.workers for each in _of_worker(worker, settings)),
        *_of_memory(status),
    ]
    yield from sorted(found, key=lambda each: each.severity != "problem")


def _of_model(model: ModelStatus) -> Iterator[Advice]:
    if model.error is not None:
        yield Advice(
            severity="problem",
            subject=model.name,
            message=model.error,
            advice=f"check its files with `hearth models verify {model.name}`; the server's log says more",
        )
    elif model.state == "waiting":
        yield Advice(
            severity="warning",
            subject=model.name,
            message="requests wait for room in memory for it",
            advice="raise generator.memory, unpin or unload another model, or lower generator.cells",
        )


def _of_worker(worker: WorkerStatus, settings: Settings) -> Iterator[Advice]:
    if worker.role == "encoder" and worker.error is not None:
        yield Advice(
            severity="problem",
            subject=worker.name,
            message=worker.error,
            advice="check the models' files with `hearth models verify`",
        )
    if worker.restarts:
        times = "once" if worker.restarts == 1 else f"{worker.restarts} times"
        yield Advice(
            severity="warning",
            subject=worker.name,
            message=f"its process ended unasked and was started again {times}",
            advice="the server's log says how it ended; if memory was short, lower generator.memory",
        )
    limit = settings.encoder.queue_requests if worker.role == "encoder" else settings.generator.queue_requests
    if worker.waiting is not None and limit and worker.waiting >= FULL_QUEUE_SHARE * limit:
        yield Advice(
            severity="warning",
            subject=worker.name,
            message=f"{worker.waiting} of at most {limit} requests wait; further ones will be refused",
            advice="send less, raise generator.slots, or use a smaller model",
        )
    if worker.preemptions:
        yield Advice(
            severity="warning",
            subject=worker.name,
            message=f"the KV cache was full, and {worker.preemptions} answers were set back for others",
            advice="raise generator.cells, lower generator.slots, or set generator.cache_type = q8_0",
        )


def _of_memory(status: ServerStatus) -> Iterator[Advice]:
    memory = status.memory
    if memory.available < LITTLE_MEMORY:
        yield Advice(
            severity="problem",
            subject="memory",
            message=f"only {memory.available // MIB} MiB of this machine's memory are free",
            advice="close other programs, unload a model, or lower generator.memory",
        )
