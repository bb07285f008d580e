"""What is here, what fits and what is wrong with the server's machine; and its backups."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import DataTable, Static

from appliance.admin import BackupList, BackupStatus, Finding
from tui import format
from tui.dialogs.form import Field, Form
from tui.language import has, say
from tui.screens.base import HearthScreen, flow
from tui.widgets.panel import Panel
from tui.widgets.table import Cell, LiveTable

MARKS = {
    "ok": ("✓", "$text-success"),
    "warning": ("⚠", "$text-warning"),
    "problem": ("✗", "$text-error"),
}
WORST_FIRST = ("problem", "warning", "ok")
NO, YES = "no", "yes"


class Doctor(HearthScreen):
    NAME = "doctor"
    FEEDS = ("backups",)
    AUTO_FOCUS = "#doctor-findings"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "examine", "doctor.again"),
        Binding("b", "backup", "doctor.backup"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._findings: dict[str, Finding] = {}

    def body(self) -> ComposeResult:
        with Vertical(id="doctor"):
            with Panel(say("doctor.title"), id="doctor-list"):
                yield LiveTable(
                    ["", *(say(f"doctor.{name}") for name in ("part", "what", "found"))], id="doctor-findings"
                )
            with Panel("", id="doctor-detail"):
                yield Static(id="doctor-about", markup=False)
            with Panel(say("doctor.backups"), id="doctor-backups"):
                yield Static(id="doctor-backup-list")

    def on_mount(self) -> None:
        self.action_examine()

    def fed(self, feed: str, value: Any) -> None:
        self.query_one("#doctor-backup-list", Static).update(backups_text(value))

    @flow
    async def action_examine(self) -> None:
        found = await self.call(lambda client: client.doctor(), say("doctor.examining"))
        worst_first = sorted(found, key=lambda each: WORST_FIRST.index(each.level))
        self._findings = {str(number): finding for number, finding in enumerate(worst_first)}
        table = self.query_one("#doctor-findings", LiveTable)
        table.show({key: finding_row(finding) for key, finding in self._findings.items()})
        wrong = sum(finding.level != "ok" for finding in found)
        self.query_one("#doctor-list").border_subtitle = (
            say("doctor.wrong", count=wrong) if wrong else say("doctor.well")
        )
        self._explain(table.chosen)

    @on(DataTable.RowHighlighted, "#doctor-findings")
    def _follow_cursor(self, event: DataTable.RowHighlighted) -> None:
        self._explain(event.row_key.value)

    def _explain(self, key: str | None) -> None:
        finding, panel = self._findings.get(key or ""), self.query_one("#doctor-detail")
        panel.display = finding is not None
        if finding is not None:
            panel.border_title = f"{section(finding)}: {finding.label}"
            self.query_one("#doctor-about", Static).update(
                Content.assemble(finding.text, (f"\n→ {finding.advice}", "$text-warning"))
                if finding.advice
                else Content(finding.text)
            )

    @flow
    async def action_backup(self) -> None:
        """A backup of the whole home, in the server's own directory."""
        choices = ((NO, say("doctor.without_models")), (YES, say("doctor.with_models")))
        form = Form(
            say("doctor.backup_title"),
            [Field("models", say("doctor.models"), NO, choices=choices)],
            text=say("doctor.backup_text"),
            do=say("doctor.backup_do"),
        )
        values = await self.app.push_screen_wait(form)
        if values:
            made = await self.call(
                lambda client: client.create_backup(models=values["models"] == YES), say("doctor.backing_up")
            )
            self.notify(say("doctor.backed_up", name=made.name, size=format.size(made.bytes)))
            self.hearth.feeds.refresh("backups")


def finding_row(finding: Finding) -> tuple[Cell, ...]:
    mark, style = MARKS[finding.level]
    text = finding.text if finding.level == "ok" else Content.styled(finding.text, style)
    return Content.styled(mark, style), section(finding), finding.label, text


def section(finding: Finding) -> str:
    key = f"doctor_section.{finding.section.lower()}"
    return say(key) if has(key) else finding.section


def backups_text(backups: BackupList) -> Content:
    lines = [_backup(each) for each in backups.data[:5]]
    if backups.making:
        lines.insert(0, Content.styled(f"◌ {say('doctor.making', name=backups.making)}", "$text-warning"))
    if backups.error:
        lines.insert(0, Content.styled(f"✗ {backups.error}", "$text-error"))
    if not lines:
        lines.append(Content.styled(say("doctor.no_backups"), "$foreground-muted"))
    return Content("\n").join(lines)


def _backup(backup: BackupStatus) -> Content:
    if backup.created_at is None:
        return Content.assemble(
            ("✗ ", "$text-error"), backup.name, (f"  {say('doctor.damaged')}", "$text-error")
        )
    when = datetime.fromtimestamp(backup.created_at).strftime("%Y-%m-%d %H:%M")
    holds = say("doctor.with_models" if backup.models else "doctor.without_models")
    return Content.assemble(
        ("✓ ", "$text-success"),
        backup.name,
        (f"  {when} · {format.size(backup.bytes)} · {holds}", "$foreground-muted"),
    )
