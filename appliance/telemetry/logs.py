"""The server's log: as lines of text or of JSON on stderr, and the latest of them in memory for operators.

Each line has the ids of the request and the trace that it belongs to. Knows no HTTP. What cannot be written,
as when the disk behind stderr is full, is dropped: a log must not end the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import threading
from collections import deque
from datetime import UTC, datetime
from typing import Literal

import msgspec

from appliance import activity, trace
from appliance.admin import LogLine, LogPage

KEPT_LINES = 4096
MOST_CHARACTERS = 8192  # of one line in memory, tracebacks included
Format = Literal["text", "json"]


class JsonLine(msgspec.Struct, kw_only=True, omit_defaults=True):
    """`time` is ISO 8601 in UTC; `error`: the traceback."""

    time: str
    level: str
    logger: str
    message: str
    request: str = ""
    trace: str = ""
    span: str = ""
    error: str = ""


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        context = trace.current.get()
        line = JsonLine(
            time=datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds"),
            level=record.levelname.lower(),
            logger=record.name,
            message=record.getMessage(),
            request=activity.request_id.get(),
            trace=context.trace if context is not None else "",
            span=context.span if context is not None else "",
            error=self.formatException(record.exc_info) if record.exc_info else "",
        )
        return msgspec.json.encode(line).decode()


class TextFormatter(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """The request's id stands at the end of the first line."""
        line = super().format(record)
        request = activity.request_id.get()
        if not request:
            return line
        first, newline, rest = line.partition("\n")
        return f"{first} [{request}]{newline}{rest}"


class LogLines(logging.Handler):
    """The latest lines. Written from any thread; read on the loop that `watch` was called on."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: deque[LogLine] = deque(maxlen=KEPT_LINES)
        self._last = 0
        self._changing = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._grown = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        context = trace.current.get()
        message = record.getMessage()
        if record.exc_info:
            message += "\n" + logging.Formatter().formatException(record.exc_info)
        with self._changing:
            self._last += 1
            line = LogLine(
                number=self._last,
                time=record.created,
                level=record.levelname.lower(),
                logger=record.name,
                message=message[:MOST_CHARACTERS],
                request=activity.request_id.get(),
                trace=context.trace if context is not None else "",
            )
            self._lines.append(line)
        if self._loop is not None and not self._loop.is_closed():
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._wake)

    def watch(self) -> None:
        """Needs the running loop, for those who wait for new lines."""
        self._loop = asyncio.get_running_loop()

    def page(self, after: int, limit: int, least: int) -> LogPage:
        """Up to `limit` lines behind the number `after`, of the level `least` on; -1: the newest."""
        with self._changing:
            lines, last = list(self._lines), self._last
        wanted = [line for line in lines if line.number > after and _level(line) >= least]
        found = wanted[-limit:] if after < 0 else wanted[:limit]
        reached = found[-1].number if len(wanted) > len(found) and after >= 0 else last
        return LogPage(data=tuple(found), last=reached, first=lines[0].number if lines else last + 1)

    async def wait_beyond(self, number: int, seconds: float) -> None:
        """Until there is a line behind `number`, or the time is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._last <= number:
                    await self._grown.wait()

    def _wake(self) -> None:
        self._grown.set()
        self._grown = asyncio.Event()


def _level(line: LogLine) -> int:
    return logging.getLevelNamesMapping().get(line.level.upper(), logging.INFO)


def begin_logging(level: str, form: Format) -> LogLines:
    """Send the whole process's log to stderr, as `form` has it, and to the lines that are returned."""
    logging.raiseExceptions = False
    lines = LogLines()
    stream = logging.StreamHandler(sys.stderr)
    stream.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[stream, lines], force=True)
    return lines
