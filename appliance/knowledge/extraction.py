"""The gateway's side of the extractor: start it when there is work, end it when there has been none.

Knows processes and frames, not documents: what a job means is the extractor's business.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Sequence

from appliance.knowledge.extract.messages import Job, Refusal, Reply, encode, replies_decoder
from appliance.workers.frames import HEADER
from appliance.workers.process import WorkerProcess, launch

IDLE_SECONDS = 60.0
GRACE_SECONDS = 10.0  # beyond the jobs' own limits before the extractor itself is given up
MOST_REPLY_BYTES = 1024 * 1024 * 1024
TRIES = 2


class Extraction:
    """One extractor process, one call at a time. `stop` at the end."""

    def __init__(self, program: Sequence[str], idle_seconds: float = IDLE_SECONDS) -> None:
        self._program, self._idle_seconds = program, idle_seconds
        self._busy = asyncio.Lock()
        self._worker: WorkerProcess | None = None
        self._ending: asyncio.TimerHandle | None = None
        self._burial: asyncio.Task[None] | None = None

    async def run(self, jobs: Sequence[Job]) -> tuple[Reply, ...]:
        """A reply for each job. When the extractor itself is lost they are tried once more, then refused."""
        most_seconds = sum(job.limits.seconds for job in jobs) + jobs[0].limits.seconds + GRACE_SECONDS
        async with self._busy:
            self._stay()
            try:
                for _ in range(TRIES):
                    try:
                        return await asyncio.wait_for(self._ask(jobs), most_seconds)
                    except (OSError, EOFError, TimeoutError):
                        await self._end()
                lost = Refusal("server_error", "the process that reads documents was lost over it")
                return (lost,) * len(jobs)
            except asyncio.CancelledError:
                await self._end()  # a reply may be under way that nobody waits for
                raise
            finally:
                self._ending = asyncio.get_running_loop().call_later(self._idle_seconds, self._leave)

    async def stop(self) -> None:
        self._stay()
        await self._end()
        if self._burial is not None:
            await self._burial

    async def _ask(self, jobs: Sequence[Job]) -> tuple[Reply, ...]:
        if self._worker is None:
            environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false"}
            self._worker = await launch(self._program, "extractor", environment)
        reader, writer = self._worker.reader, self._worker.writer
        payload = encode(jobs)
        writer.write(HEADER.pack(len(payload)) + payload)
        await writer.drain()
        (length,) = HEADER.unpack(await reader.readexactly(HEADER.size))
        if length > MOST_REPLY_BYTES:
            raise EOFError("the extractor's reply is out of bounds")
        replies = replies_decoder.decode(await reader.readexactly(length))
        if len(replies) != len(jobs):
            raise EOFError("the extractor's replies are not those to its jobs")
        return replies

    def _stay(self) -> None:
        if self._ending is not None:
            self._ending.cancel()
            self._ending = None

    def _leave(self) -> None:
        """Nothing has been asked for a while."""
        if self._worker is not None and not self._busy.locked():
            worker, self._worker = self._worker, None
            self._burial = asyncio.create_task(_bury(worker))

    async def _end(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            await _bury(worker)


async def _bury(worker: WorkerProcess) -> None:
    worker.writer.close()
    with contextlib.suppress(ProcessLookupError):
        worker.process.send_signal(signal.SIGKILL)
    await worker.process.wait()
