"""An audit log in a directory of the test's own, filled line by line."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.audit import AuditCheckpoint, AuditReport
from appliance.config.audit import Audit
from appliance.security.audit.files import KEY, log_files, read_key
from appliance.security.audit.log import AuditLog
from appliance.security.audit.verify import verify_log


async def filled(log: AuditLog, count: int, first: int = 0) -> None:
    """`count` requests' lines, all on the disk when this returns."""
    for number in range(first, first + count):
        endpoint = "POST /v1/chat/completions"
        log.admit().fill(log.entry("request", user=f"user-{number % 3}", endpoint=endpoint, status=200))
    await settled(lambda: not log.waiting or bool(log.failing))


async def settled(holds: Callable[[], bool]) -> None:
    """Until the log's thread has made it so; fails when it never does."""
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 – a thread has no event for the test
            await asyncio.sleep(0.005)


class Home:
    """A directory with an audit log, which servers come and go over."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def serve(self, lines: int = 10, settings: Audit | None = None) -> AuditCheckpoint:
        """A server that starts, answers so many requests and stops; the checkpoint before its stop."""

        async def run() -> AuditCheckpoint:
            log = AuditLog(self.directory, settings or Audit())
            log.start()
            await filled(log, lines)
            checkpoint = log.checkpoint()
            await asyncio.to_thread(log.close)
            return checkpoint

        return asyncio.run(run())

    def verify(self, *checkpoints: AuditCheckpoint) -> AuditReport:
        return verify_log(self.directory, read_key(self.directory / KEY), checkpoints)

    def faults(self, *checkpoints: AuditCheckpoint) -> set[str]:
        return {finding.fault for finding in self.verify(*checkpoints).findings}

    def change(self, how: Callable[[list[bytes]], list[bytes]]) -> None:
        """Make other lines of the newest file's."""
        path = log_files(self.directory)[-1].path
        path.write_bytes(b"".join(how(path.read_bytes().splitlines(keepends=True))))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "audit")
