"""What was asked of the server, and what it said of itself: filtered, followed, and checked for changes."""

from __future__ import annotations

import asyncio
from collections import deque
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import ContentSwitcher, DataTable, Input, Static
from textual.worker import Worker

from appliance.admin import LogLine, LogPage
from appliance.audit import AuditCheckpoint, AuditEntry, AuditPage
from appliance.errors import InvalidValue, Unavailable
from tui import trails
from tui.dialogs.notice import Notice
from tui.dialogs.path import PathQuestion
from tui.files import append_line
from tui.language import say
from tui.messages import Found
from tui.screens.base import HearthScreen, flow
from tui.widgets.panel import Panel
from tui.widgets.table import LiveTable

AUDIT, LOG = "audit-entries", "audit-log"
MOST = 300  # lines that are kept to be looked at
PAUSE_SECONDS = 0.5
WAIT_SECONDS = 20.0  # that the server holds the question for new lines
AUDIT_COLUMNS = ("when", "endpoint", "status", "took", "user", "model", "route", "found")
CHECKPOINTS = "hearth-checkpoints.jsonl"
LOG_COLUMNS = ("when", "level", "part", "message")


class Audit(HearthScreen):
    NAME = "audit"
    AUTO_FOCUS = f"#{AUDIT}"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "filter", "audit.filter", key_display="/"),
        Binding("l", "other", "audit.other"),
        Binding("f", "follow", "audit.follow"),
        Binding("v", "verify", "audit.verify"),
        Binding("c", "checkpoint", "audit.checkpoint"),
        Binding("k", "compare", "audit.compare"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._entries: deque[AuditEntry] = deque(maxlen=MOST)
        self._lines: deque[LogLine] = deque(maxlen=MOST)
        self._filter = trails.Filter({}, ())
        self._is_following = True
        self._following: Worker[None] | None = None

    def body(self) -> ComposeResult:
        with Vertical(id="audit"):
            with Panel("", id="audit-list"):
                yield Input(placeholder=say("audit.filter_hint"), id="audit-words", compact=True)
                with ContentSwitcher(initial=AUDIT):
                    yield LiveTable([say(f"audit.{name}") for name in AUDIT_COLUMNS], id=AUDIT)
                    yield LiveTable([say(f"audit.{name}") for name in LOG_COLUMNS], id=LOG)
            with Panel(say("audit.line"), id="audit-detail"):
                yield Static(id="audit-about", markup=False)

    # Looking: the newest lines, then what comes

    def on_screen_resume(self) -> None:
        super().on_screen_resume()
        self.call_after_refresh(self._look)

    def on_screen_suspend(self) -> None:
        super().on_screen_suspend()
        self._stop()

    def on_found(self, message: Found) -> None:
        super().on_found(message)
        if self._following is None or self._following.is_finished:
            self._look()

    def _stop(self) -> None:
        if self._following is not None:
            self._following.cancel()

    def _look(self) -> None:
        """Begin anew: with the view and the filter as they are now."""
        self._stop()
        self._entitle()
        self._following = self._read()

    @flow
    async def _read(self) -> None:
        view, filter = self._view, self._filter
        if view == AUDIT:
            self._entries.clear()
            page = await self.call(
                lambda client: client.audit_lines(limit=MOST, **filter.asked), say("audit.reading")
            )
            after = self._add_entries(page)
        else:
            self._lines.clear()
            lines = await self.call(
                lambda client: client.logs(limit=MOST, **filter.asked), say("audit.reading")
            )
            after = self._add_lines(lines)
        while self._is_following and self.is_attached:
            await asyncio.sleep(PAUSE_SECONDS)  # lines that come together are shown together
            try:
                after = await self._wait_for_more(view, filter, after)
            except Unavailable:
                return  # the screen says so, and begins anew when the server is back

    async def _wait_for_more(self, view: str, filter: trails.Filter, after: int) -> int:
        run = self.hearth.backend.run
        if view == AUDIT:
            return self._add_entries(
                await run(lambda client: client.audit_lines(after=after, wait=WAIT_SECONDS, **filter.asked))
            )
        return self._add_lines(
            await run(lambda client: client.logs(after=after, wait=WAIT_SECONDS, limit=MOST, **filter.asked))
        )

    def _add_entries(self, page: AuditPage) -> int:
        if not self.is_attached:
            return page.last
        self._entries.extend(each for each in page.data if self._filter.takes(trails.entry_text(each)))
        self.query_one(f"#{AUDIT}", LiveTable).show(trails.audit_rows(tuple(self._entries)))
        self._explain()
        return page.last

    def _add_lines(self, page: LogPage) -> int:
        if not self.is_attached:
            return page.last
        self._lines.extend(
            each for each in page.data if self._filter.takes(f"{each.logger} {each.level} {each.message}")
        )
        self.query_one(f"#{LOG}", LiveTable).show(trails.log_rows(tuple(self._lines)))
        self._explain()
        return page.last

    @property
    def _view(self) -> str:
        return self.query_one(ContentSwitcher).current or AUDIT

    @on(DataTable.RowHighlighted)
    def _follow_cursor(self) -> None:
        self._explain()

    def _explain(self) -> None:
        chosen = self.query_one(f"#{self._view}", LiveTable).chosen
        about, panel = self.query_one("#audit-about", Static), self.query_one("#audit-detail")
        if self._view == AUDIT:
            entry = next((each for each in self._entries if str(each.seq) == chosen), None)
            about.update(trails.described(entry) if entry else "")
            panel.border_title = say("audit.line_of", number=chosen or "–")
        else:
            line = next((each for each in self._lines if str(each.number) == chosen), None)
            about.update(line.message if line else "")
            panel.border_title = say("audit.line")

    def _entitle(self) -> None:
        panel = self.query_one("#audit-list")
        panel.border_title = say("audit.title" if self._view == AUDIT else "audit.log_title")
        panel.border_subtitle = say("audit.followed" if self._is_following else "audit.held")

    # What the operator does

    def action_filter(self) -> None:
        self.query_one("#audit-words").focus()

    @on(Input.Submitted, "#audit-words")
    def _narrow(self, event: Input.Submitted) -> None:
        read = trails.audit_filter if self._view == AUDIT else trails.log_filter
        try:
            self._filter = read(event.value)
        except InvalidValue as error:
            self.show_error(error)
            return
        self.query_one(f"#{self._view}").focus()
        self._look()

    def action_other(self) -> None:
        """The audit log, or the server's own log."""
        view = LOG if self._view == AUDIT else AUDIT
        words = self.query_one("#audit-words", Input)
        words.value = ""
        words.placeholder = say("audit.filter_hint" if view == AUDIT else "audit.log_filter_hint")
        self._filter = trails.audit_filter("") if view == AUDIT else trails.log_filter("")
        self.query_one(ContentSwitcher).current = view
        self.query_one(f"#{view}").focus()
        self._look()

    def action_follow(self) -> None:
        self._is_following = not self._is_following
        if self._is_following:
            self._look()
        else:
            self._stop()
            self._entitle()

    @flow
    async def action_verify(self) -> None:
        """Checks the whole chain."""
        await self._verify(())

    async def _verify(self, checkpoints: tuple[AuditCheckpoint, ...]) -> None:
        report = await self.call(lambda client: client.verify_audit(checkpoints), say("audit.verifying"))
        text = trails.verdict(report, len(checkpoints))
        self.app.push_screen(Notice(say("audit.verify_title"), text))

    @flow
    async def action_checkpoint(self) -> None:
        """Writes down how far the log is, in a file that is to be kept elsewhere."""
        point = await self.call(lambda client: client.audit_checkpoint(), say("audit.reading"))
        question = PathQuestion(
            say("audit.checkpoint_title", number=point.seq),
            say("audit.checkpoint_text"),
            str(Path.home() / CHECKPOINTS),
            must_exist=False,
        )
        path = await self.app.push_screen_wait(question)
        if path is None:
            return
        try:
            await asyncio.to_thread(append_line, path, trails.checkpoint_line(point))
        except OSError as error:
            self.show_problem(
                say("chat.not_written", path=path, reason=error.strerror), say("chat.other_path")
            )
        else:
            self.notify(say("chat.written", path=path))

    @flow
    async def action_compare(self) -> None:
        """Checks the chain, and that it still is what checkpoints of a file say."""
        question = PathQuestion(
            say("audit.compare_title"), say("audit.compare_text"), str(Path.home() / CHECKPOINTS)
        )
        path = await self.app.push_screen_wait(question)
        if path is None:
            return
        try:
            text = await asyncio.to_thread(path.read_text, "utf-8")
        except (OSError, UnicodeDecodeError) as error:
            self.show_problem(say("audit.cannot_read", path=path, reason=str(error)), say("chat.other_path"))
        else:
            await self._verify(trails.checkpoints_of(text))
