"""The versions of the configuration; Enter answers with one."""

from __future__ import annotations

from collections.abc import Sequence

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import DataTable, Static

from appliance.configuration import ConfigVersion
from tui import configured
from tui.dialogs.base import Dialog
from tui.language import say
from tui.widgets.table import LiveTable


class Versions(Dialog[ConfigVersion]):
    def __init__(self, versions: Sequence[ConfigVersion]) -> None:
        super().__init__()
        self._versions = {str(version.version): version for version in versions}

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog -page"):
            yield Static(say("settings.history_title"), classes="dialog-title")
            yield LiveTable(
                [say(f"settings.{name}") for name in ("version", "when", "by", "changed")], id="versions"
            )
            yield Static(say("settings.history_hint"), classes="dialog-hint")

    def on_mount(self) -> None:
        table = self.query_one(LiveTable)
        table.show({key: configured.version_row(version) for key, version in self._versions.items()})
        table.focus()

    @on(DataTable.RowSelected)
    def choose(self, event: DataTable.RowSelected) -> None:
        self.dismiss(self._versions[event.row_key.value or ""])
