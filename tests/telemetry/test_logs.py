"""The server's log: each line with its request and trace, the latest in memory, and nothing that ends it."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest

from appliance import activity, trace
from appliance.telemetry.logs import KEPT_LINES, JsonFormatter, LogLines, TextFormatter

LOG = logging.getLogger("hearth.tests.logs")


@pytest.fixture
def lines() -> LogLines:
    return LogLines()


def record(message: str, level: int = logging.INFO, error: BaseException | None = None) -> logging.LogRecord:
    told = (type(error), error, error.__traceback__) if error else None
    return LOG.makeRecord(LOG.name, level, "file", 1, message, (), told)


def in_request(work: object, *arguments: object) -> object:
    """`work` as within a request."""
    import contextvars

    def run() -> object:
        activity.request_id.set("req-1")
        trace.current.set(trace.begin("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"))
        return work(*arguments)  # type: ignore[operator]

    return contextvars.copy_context().run(run)


def test_a_json_line_has_the_ids_and_the_traceback() -> None:
    try:
        raise ValueError("broken")
    except ValueError as error:
        text = in_request(JsonFormatter().format, record("it\nwent wrong", logging.ERROR, error))
    assert isinstance(text, str)
    assert "\n" not in text
    line = json.loads(text)
    assert (line["level"], line["logger"], line["message"]) == ("error", LOG.name, "it\nwent wrong")
    assert (line["request"], line["trace"]) == ("req-1", "0af7651916cd43dd8448eb211c80319c")
    assert "ValueError: broken" in line["error"]
    assert "request" not in json.loads(JsonFormatter().format(record("outside")))


def test_a_text_line_has_the_request_at_its_end() -> None:
    assert str(in_request(TextFormatter().format, record("hello"))).endswith("hello [req-1]")
    assert TextFormatter().format(record("hello")).endswith("hello")


def test_pages_go_on_where_the_last_ended(lines: LogLines) -> None:
    for number in range(10):
        lines.emit(record(f"line {number}", logging.WARNING if number % 2 else logging.INFO))
    assert [line.message for line in lines.page(-1, 3, 0).data] == ["line 7", "line 8", "line 9"]
    page = lines.page(2, 3, 0)
    assert ([line.number for line in page.data], page.last, page.first) == ([3, 4, 5], 5, 1)
    assert [line.number for line in lines.page(page.last, 100, 0).data] == [6, 7, 8, 9, 10]
    assert [line.number for line in lines.page(0, 100, logging.WARNING).data] == [2, 4, 6, 8, 10]
    assert lines.page(10, 5, 0).last == 10


def test_what_is_kept_is_bounded(lines: LogLines) -> None:
    for number in range(KEPT_LINES + 50):
        lines.emit(record("x" * 20_000 if number == KEPT_LINES else "x"))
    page = lines.page(-1, 10_000, 0)
    assert (len(page.data), page.first, page.last) == (KEPT_LINES, 51, KEPT_LINES + 50)
    assert max(len(line.message) for line in page.data) == 8192


def test_who_waits_is_told(lines: LogLines) -> None:
    async def wait() -> None:
        lines.watch()
        waiting = asyncio.ensure_future(lines.wait_beyond(0, 30))
        await asyncio.sleep(0.02)
        assert not waiting.done()
        await asyncio.to_thread(lines.emit, record("new"))
        await asyncio.wait_for(waiting, 5)

    asyncio.run(wait())
