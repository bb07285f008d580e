"""The audit log of a running server: one thread writes, everybody else puts lines into its bounded inbox.

A request takes a place in the inbox before it is answered and fills it afterwards, so that under the policy
`refuse` nothing is answered whose line could be lost. A line is counted as written when it is on the disk;
lines that come together are synced together. What the policy `degrade` could not write is counted, and the
count becomes a line as soon as lines can be written again.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from appliance.audit import (
    AuditCheckpoint,
    AuditEntry,
    AuditPage,
    AuditReport,
    AuditStatus,
    AuditTokens,
    Event,
)
from appliance.config.audit import Audit as Settings
from appliance.errors import Overloaded, StorageFull
from appliance.security.audit.chain import BEGINNING, Link, read_line, user_of
from appliance.security.audit.files import HEAD, KEY, last_line, log_files, read_key
from appliance.security.audit.head import Head, read_head
from appliance.security.audit.pages import Wanted, first_of, page_after, page_before
from appliance.security.audit.verify import verify_log
from appliance.security.audit.writer import Writer
from appliance.store.lock import DirectoryLock

log = logging.getLogger("hearth.audit")

BATCH_LINES = 512
RECENT = 2048  # of the newest entries that are answered from memory
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0  # between two tries of a disk that takes nothing
UPKEEP_SECONDS = 60.0
STOP_SECONDS = 5.0  # for lines that a full disk does not take
NO_TOKENS = AuditTokens()


class Place:
    """A place in the inbox, held while a request is answered; filled or given back, once.

    `is_promised`: there was room; without that, a line may find none.
    """

    def __init__(self, put: Callable[[AuditEntry | None, bool], None], *, is_promised: bool) -> None:
        self._put, self._is_promised = put, is_promised

    def fill(self, entry: AuditEntry) -> None:
        self._put(entry, self._is_promised)

    def give_back(self) -> None:
        self._put(None, self._is_promised)


class AuditLog:
    """`start` before use, `close` at the end. Raises SetupError when its directory or key cannot be used."""

    def __init__(
        self, directory: Path, settings: Settings, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.directory, self.settings = directory, settings
        self._lock = DirectoryLock(directory)
        self._now = now
        is_first = not log_files(directory)
        path = Path(settings.key_file).expanduser() if settings.key_file else directory / KEY
        self._key = read_key(path, make=is_first or not settings.key_file)
        end, self._damage = self._recover(is_first)
        self._writer = Writer(directory, settings, self._key, end, Head(directory / HEAD))
        # Unbounded by itself: `_taken` bounds it, so that a place that was promised is always there.
        self._inbox: queue.SimpleQueue[AuditEntry | None] = queue.SimpleQueue()
        self._counting = threading.Lock()
        self._taken = 0  # places held, and lines on their way
        self._lost = self._unreported = 0
        self._failing = ""
        self._recent: deque[AuditEntry] = deque(maxlen=RECENT)
        self._newest = end.seq
        self._is_closing = threading.Event()
        self._grown = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._work, name="audit-writer", daemon=True)

    def _recover(self, is_first: bool) -> tuple[Link, str]:
        """Where the chain goes on, and what is wrong with its end. It goes on from the end that was written,
        so that a tail that was cut off stays missing.
        """
        head = read_head(self._key, self.directory / HEAD)
        if is_first:
            return (BEGINNING, "") if head is None else (head, f"no line is left of {head.seq}")
        files = log_files(self.directory)
        for file in reversed(files):
            raw, end = last_line(file.path)
            if end < file.path.stat().st_size:  # torn by a crash: nobody was told that it was written
                os.truncate(file.path, end)
            if not raw:
                continue
            found = read_line(self._key, raw)
            if found is None or not found.is_genuine:
                fault = f"the last line of {file.path.name} is not genuine"
                return head or Link(file.first, BEGINNING.mac), fault
            last = Link(found.entry.seq, found.mac)
            if head is None:
                return last, "the file that remembers the log's end was missing or damaged"
            if head.seq > last.seq:
                return head, f"the log ended at line {last.seq}, but {head.seq} had been written"
            return last, ""
        return head or BEGINNING, "the log's files are empty" if head else ""

    def start(self) -> None:
        """Needs the running loop, for those who wait for new lines."""
        self._loop = asyncio.get_running_loop()
        if self._damage:
            log.error("the audit log was tampered with or damaged: %s", self._damage)
        self._thread.start()
        self.note("start", detail=self._damage)

    def close(self) -> None:
        """Write what waits, then the line that says so. What a full disk does not take is lost, and told."""
        if self._thread.is_alive():
            self.note("stop")
            self._inbox.put(None)
            self._is_closing.set()
            self._thread.join(STOP_SECONDS + 2 * LONGEST_PAUSE)
        if self._unreported:
            log.error("%d lines of the audit log could not be written", self._unreported)
        if not self._thread.is_alive():  # else a disk that does not answer holds it
            self._writer.close()
        self._lock.release()

    # Writing

    def admit(self, *, always: bool = False) -> Place:
        """A place for the line of a request that is about to be answered.

        Raises StorageFull while lines cannot be written, Overloaded when the inbox is full; both only under
        the policy `refuse`, and not with `always`: a line that then finds no room is counted as lost.
        """
        refuses = self.settings.when_full == "refuse" and not always
        if refuses and self._failing:
            raise StorageFull(
                f"the audit log cannot be written ({self._failing}), and audit.when_full is `refuse`: "
                "nothing is answered until it can",
                code="audit_unavailable",
                retry_after=LONGEST_PAUSE,
            )
        with self._counting:
            if refuses and self._taken >= self.settings.inbox:
                raise Overloaded(
                    f"{self._taken} lines of the audit log are under way already (audit.inbox)",
                    code="audit_busy",
                    retry_after=1.0,
                )
            self._taken += 1
            is_promised = self._taken <= self.settings.inbox
        return Place(self._put, is_promised=is_promised)

    def note(self, event: Event, *, detail: str = "", count: int = 0) -> None:
        """A line of the log's own."""
        self.admit(always=True).fill(self.entry(event, detail=detail, count=count))

    def entry(self, event: Event, *, user: str = "", **fields: Any) -> AuditEntry:
        """An entry of now; `user` is a name. Its number and place in the chain come when it is written."""
        blank: dict[str, Any] = {
            "trace": "",
            "request": "",
            "endpoint": "",
            "model": "",
            "route": "",
            "status": 0,
            "sensitive": False,
            "tokens": NO_TOKENS,
            "seconds": 0.0,
        }
        return AuditEntry(
            seq=0, time=self._time(), event=event, user=user_of(self._key, user), **(blank | fields)
        )

    def hash_of(self, user: str) -> str:
        """A user's name as lines have it."""
        return user_of(self._key, user)

    def _put(self, entry: AuditEntry | None, is_promised: bool) -> None:
        if entry is None:
            with self._counting:
                self._taken -= 1
        elif not is_promised and self._taken > self.settings.inbox:
            self._lose(1)
        else:
            self._inbox.put(entry)

    def _time(self) -> str:
        return self._now().isoformat(timespec="microseconds")

    # The thread

    def _work(self) -> None:
        is_over = False
        while not is_over:
            batch: list[AuditEntry] = []
            with contextlib.suppress(queue.Empty):
                first = self._inbox.get(timeout=UPKEEP_SECONDS)
                is_over = first is None
                if first is not None:
                    batch.append(first)
                while not is_over and len(batch) < BATCH_LINES:
                    following = self._inbox.get_nowait()
                    is_over = following is None
                    if following is not None:
                        batch.append(following)
            self._write(batch)
            self._keep_up()

    def _write(self, batch: list[AuditEntry]) -> None:
        """All of them, or what the policy has for when that cannot be."""
        pause, waited = FIRST_PAUSE, 0.0
        while True:
            with self._counting:
                missing = self._unreported
            told = [self.entry("lost", count=missing, detail="lines could not be written")] if missing else []
            try:
                written = self._writer.append([*told, *batch])
            except OSError as error:
                self._fail(error)
                stopping = self._is_closing.is_set()
                if self.settings.when_full == "degrade" or (stopping and waited >= STOP_SECONDS):
                    self._lose(len(batch))
                    return
                if stopping:
                    time.sleep(FIRST_PAUSE)
                    waited += FIRST_PAUSE
                else:
                    self._is_closing.wait(pause)
                pause = min(LONGEST_PAUSE, pause * 2)
                continue
            self._note_written(written, missing, len(batch))
            return

    def _note_written(self, written: list[AuditEntry], reported: int, count: int) -> None:
        if self._failing:
            log.warning("the audit log is written again")
        with self._counting:
            self._failing = ""
            self._unreported -= reported
            self._taken -= count
            if written:
                self._newest = written[-1].seq
                self._recent.extend(written)
        self._tell()

    def _fail(self, error: OSError) -> None:
        reason = error.strerror or str(error)
        if not self._failing:
            log.error("the audit log in %s cannot be written: %s", self.directory, reason)
        self._failing = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else reason

    def _lose(self, count: int) -> None:
        with self._counting:
            self._lost += count
            self._unreported += count
            self._taken -= count

    def _keep_up(self) -> None:
        try:
            kept_from = self._writer.due_retention(self._now())
            if kept_from:
                noted = self.entry("retention", kept_from=kept_from, detail="older lines were removed")
                self._note_written(self._writer.append([noted]), 0, 0)
                self._writer.remove_before(kept_from)
            self._writer.export_checkpoint(self._now())
        except OSError as error:
            log.error("upkeep of the audit log in %s: %s", self.directory, error)

    # Reading

    @property
    def newest(self) -> int:
        return self._newest

    @property
    def lost(self) -> int:
        return self._lost

    @property
    def waiting(self) -> int:
        return self._taken

    @property
    def failing(self) -> str:
        return self._failing

    def status(self) -> AuditStatus:
        files = log_files(self.directory)
        return AuditStatus(
            enabled=True,
            when_full=self.settings.when_full,
            newest=self._newest,
            waiting=self._taken,
            lost=self._lost,
            failing=self._failing,
            files=len(files),
            bytes=sum(file.path.stat().st_size for file in files),
            directory=str(self.directory),
        )

    def checkpoint(self) -> AuditCheckpoint:
        """The chain's end as it is now."""
        end = self._writer.end
        return AuditCheckpoint(seq=end.seq, time=self._time(), mac=end.mac)

    async def after(self, seq: int, limit: int, wanted: Wanted) -> AuditPage:
        """Up to `limit` wanted entries behind the number `seq`."""
        with self._counting:
            recent, newest = list(self._recent), self._newest
        if recent and recent[0].seq <= seq + 1:
            return first_of(recent, seq, limit, newest, wanted)
        return await asyncio.to_thread(page_after, self.directory, seq, limit, newest, wanted)

    async def before(self, seq: int, limit: int, wanted: Wanted) -> AuditPage:
        """The newest `limit` wanted entries in front of the number `seq`; 0: the newest of all."""
        newest = self._newest
        return await asyncio.to_thread(page_before, self.directory, seq or newest + 1, limit, newest, wanted)

    def verify(self, checkpoints: Iterable[AuditCheckpoint] = ()) -> AuditReport:
        """What is wrong with the log on the disk; reads all of it, in the calling thread."""
        return verify_log(self.directory, self._key, checkpoints)

    async def wait_beyond(self, seq: int, seconds: float) -> None:
        """Until there is an entry behind `seq`, or the time is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._newest <= seq:
                    await self._grown.wait()

    def _tell(self) -> None:
        if self._loop is not None and not self._loop.is_closed():
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        self._grown.set()
        self._grown = asyncio.Event()
