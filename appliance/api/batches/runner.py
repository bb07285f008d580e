"""Runs batches, one after another, a few of a batch's lines at a time, in the lowest scheduling class.

Each answered line is kept before the next one begins its place: after a restart only lines without an
answer are asked again. Owns its one task; knows the application as something to ask, and the archive as
where things are.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
from starlette.types import ASGIApp

from appliance.api.batches.records import (
    KIND,
    MOST_ERRORS,
    MOST_LINES,
    OPEN_STATES,
    Batch,
    BatchUsage,
    Counts,
    Errors,
    Line,
    LineError,
    Status,
    lost_line,
    output_line,
    read_lines,
)
from appliance.api.generation import now
from appliance.api.inner import ask
from appliance.errors import HearthError
from appliance.knowledge.files import Files
from appliance.principal import Principal
from appliance.runtime import Runtime
from appliance.store.objects import Kept, KeptItem

log = logging.getLogger("hearth.batches")

SCHEDULING_CLASS = "batch"
MOST_TRIES = 60
LONGEST_WAIT = 10.0  # seconds between two tries
RETRIED = (429, 503)
PAGE = 500  # results that are read at once
_encode = msgspec.json.Encoder().encode


class Runner:
    """`start` in a loop; `wake` when there is something new; `stop` leaves what is unfinished for later."""

    def __init__(self, runtime: Runtime, app: ASGIApp) -> None:
        self._runtime, self._app = runtime, app
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._cancelled: set[str] = set()

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())
        self._wake.set()

    def wake(self) -> None:
        self._wake.set()

    def cancel(self, id: str) -> None:
        """The batch ends with its present lines."""
        self._cancelled.add(id)
        self._wake.set()

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            for kept in await self._runtime.archive.in_state(KIND, *OPEN_STATES):
                batch = msgspec.json.decode(kept.body, type=Batch)
                try:
                    await self._finish(_principal(kept), batch)
                except HearthError as error:
                    await self._fail(batch, [LineError(code=error.detail_code, message=error.message)])
                except Exception:
                    log.exception("the batch %s met a bug", batch.id)
                    await self._fail(batch, [LineError(code="server_error", message="see the server's log")])

    async def _finish(self, principal: Principal, batch: Batch) -> None:
        """From wherever the batch stands to its end."""
        files = self._runtime.knowledge.files
        file = await files.get(principal, batch.input_file_id)
        lines, errors = await asyncio.to_thread(_read, files.path(file.id), batch.endpoint)
        if errors:
            await self._fail(batch, errors)
            return
        if batch.status == "validating":
            batch.model = next((line.body.get("model") for line in lines.values()), None)
            batch.in_progress_at = now()
            await self._set(batch, "in_progress")
        batch.request_counts, batch.usage = await self._tally(batch, len(lines))
        refusal: HearthError | None = None
        if batch.status in ("in_progress", "cancelling"):
            try:
                await self._answer(principal, batch, lines)
            except HearthError as error:  # what was answered before is the owner's all the same
                refusal = error
        is_cancelled = batch.id in self._cancelled or batch.status == "cancelling"
        has_expired = batch.expires_at <= time.time() and _open(batch.request_counts)
        batch.finalizing_at = now()
        await self._set(batch, "finalizing")
        batch.output_file_id = await self._write(principal, files, batch, "out")
        batch.error_file_id = await self._write(principal, files, batch, "err")
        if refusal is not None:
            await self._fail(batch, [LineError(code=refusal.detail_code, message=refusal.message)])
        elif is_cancelled:
            batch.cancelled_at = now()
            await self._set(batch, "cancelled")
        elif has_expired:
            batch.expired_at = now()
            await self._set(batch, "expired")
        else:
            batch.completed_at = now()
            await self._set(batch, "completed")
        self._cancelled.discard(batch.id)

    async def _answer(self, principal: Principal, batch: Batch, lines: dict[int, Line]) -> None:
        """Ask what has no answer yet, `archive.batch_parallel` lines at a time."""
        done = await self._runtime.archive.item_ids(batch.id)
        left = iter([(number, line) for number, line in lines.items() if str(number) not in done])
        parallel = self._runtime.settings.archive.batch_parallel
        workers = [self._work(principal, batch, left) for _ in range(parallel)]
        try:
            async with asyncio.TaskGroup() as group:
                for worker in workers:
                    group.create_task(worker)
        except ExceptionGroup as several:
            raise several.exceptions[0] from several

    async def _work(self, principal: Principal, batch: Batch, left: Iterator[tuple[int, Line]]) -> None:
        for number, line in left:
            if batch.status == "cancelling" or batch.id in self._cancelled:
                return
            if batch.expires_at <= time.time():
                result = lost_line(line.custom_id, "batch_expired", "the batch's time was over")
                await self._keep(batch, number, "err", result)
                continue
            answer = await self._ask(principal, batch, line)
            if answer is None:
                return
            await self._keep(
                batch, number, "out" if answer["response"]["status_code"] == 200 else "err", answer
            )

    async def _ask(self, principal: Principal, batch: Batch, line: Line) -> dict[str, Any] | None:
        """The line's answer; a server that is too busy is asked again. None: the batch was cancelled.

        Raises NotAuthenticated when whoever began the batch may not come in any more.
        """
        for tried in range(MOST_TRIES):
            answer = await ask(
                self._app,
                line.url,
                line.body,
                principal=self._runtime.access.still(principal),
                scheduling_class=SCHEDULING_CLASS,
                state={},
            )
            is_last = tried == MOST_TRIES - 1
            if answer.status not in RETRIED or is_last or batch.expires_at <= time.time():
                return output_line(line.custom_id, answer.status, answer.body)
            await asyncio.sleep(min(answer.retry_after or 1.0, LONGEST_WAIT))
            if batch.id in self._cancelled:
                return None
        return None

    async def _keep(self, batch: Batch, number: int, side: str, result: dict[str, Any]) -> None:
        await self._runtime.archive.add_item(
            batch.id, KeptItem(id=str(number), side=side, body=_encode(result))
        )
        assert batch.usage is not None
        _count(batch.request_counts, batch.usage, side, result)
        await self._set(batch, batch.status)

    async def _tally(self, batch: Batch, total: int) -> tuple[Counts, BatchUsage]:
        """What was answered before a restart."""
        counts, usage = Counts(total=total), BatchUsage()
        async for item in self._results(batch):
            _count(counts, usage, item.side, msgspec.json.decode(item.body))
        return counts, usage

    async def _results(self, batch: Batch) -> AsyncIterator[KeptItem]:
        start = 0
        while found := await self._runtime.archive.items_from(batch.id, start, PAGE):
            for item in found:
                yield item
            start += len(found)

    async def _write(self, principal: Principal, files: Files, batch: Batch, side: str) -> str | None:
        """The results of one side as a file; None when there are none."""

        async def content() -> AsyncIterator[bytes]:
            async for item in self._results(batch):
                if item.side == side:
                    yield item.body + b"\n"

        if not (batch.request_counts.completed if side == "out" else batch.request_counts.failed):
            return None
        received = await files.receive(content())
        try:
            name = f"{batch.id}_{'output' if side == 'out' else 'error'}.jsonl"
            file = await files.keep(
                principal, received, name, "batch_output", seconds_to_live=batch.output_seconds
            )
        finally:
            files.discard(received)
        return file.id

    async def _fail(self, batch: Batch, errors: list[LineError]) -> None:
        batch.errors, batch.failed_at = Errors(data=errors[:MOST_ERRORS]), now()
        await self._set(batch, "failed")

    async def _set(self, batch: Batch, status: Status) -> None:
        if batch.id in self._cancelled and status == "in_progress":
            status, batch.cancelling_at = "cancelling", batch.cancelling_at or now()
        batch.status = status
        await self._runtime.archive.finish(batch.id, _encode(batch), status)


def _principal(kept: Kept) -> Principal:
    if not kept.principal:  # made before principals were kept
        return Principal(kept.owner)
    return msgspec.json.decode(kept.principal, type=Principal)


def _read(path: Path, endpoint: str) -> tuple[dict[int, Line], list[LineError]]:
    lines: dict[int, Line] = {}
    errors: list[LineError] = []
    with path.open("rb") as file:
        for number, line in read_lines(file, endpoint):
            if isinstance(line, Line):
                lines[number] = line
            else:
                errors.append(line)
            if len(lines) > MOST_LINES:
                return {}, [LineError(code="too_many_lines", message=f"at most {MOST_LINES} lines")]
            if len(errors) >= MOST_ERRORS:
                break
    if not lines and not errors:
        errors.append(LineError(code="empty_file", message="the input file has no requests"))
    return lines, errors


def _count(counts: Counts, usage: BatchUsage, side: str, result: dict[str, Any]) -> None:
    if side == "err":
        counts.failed += 1
        return
    counts.completed += 1
    usage.add(result["response"]["body"].get("usage") or {})


def _open(counts: Counts) -> bool:
    return counts.failed + counts.completed < counts.total or counts.failed > 0
