"""Starting a worker, and being interrupted at every point of that."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys

import psutil

from appliance.workers.process import launch

SLEEPER = [sys.executable, "-c", "import time; time.sleep(60)"]


def test_a_launch_cancelled_at_any_point_leaves_no_process_behind() -> None:
    async def interrupted(ticks: int) -> bool:
        task = asyncio.create_task(launch(SLEEPER, "extractor", dict(os.environ)))
        for _ in range(ticks):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            worker = await task
            worker.writer.close()
            worker.process.kill()
            await worker.process.wait()
            return False
        return True

    async def main() -> int:
        return sum([await interrupted(ticks) for ticks in range(12)])

    before = {child.pid for child in psutil.Process().children()}
    assert asyncio.run(main()) > 2, "no launch was interrupted"
    assert {child.pid for child in psutil.Process().children()} <= before
