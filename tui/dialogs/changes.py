"""What a new configuration would change, before it is taken."""

from __future__ import annotations

from collections.abc import Sequence

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.widgets import Button, Static

from appliance.configuration import SettingChange
from tui import configured
from tui.dialogs.base import Dialog
from tui.language import say


class Changes(Dialog[bool]):
    """Answers whether to do it; with `do` empty it only shows."""

    def __init__(self, title: str, changes: Sequence[SettingChange], text: str = "", do: str = "") -> None:
        super().__init__()
        self._title = title
        self._changes = changes
        self._text = text
        self._do = do

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog -changes"):
            yield Static(self._title, classes="dialog-title", markup=False)
            if self._text:
                yield Static(self._text, classes="dialog-text", markup=False)
            with VerticalScroll(id="changes-scroll"):
                yield Static(configured.changes_text(self._changes))
            with Horizontal(classes="dialog-buttons"):
                yield Button(say("frame.leave"), id="leave", compact=True)
                if self._do:
                    yield Button(self._do, id="do", variant="primary", compact=True)

    def on_mount(self) -> None:
        self.query_one("#leave").focus()

    @on(Button.Pressed)
    def press(self, event: Button.Pressed) -> None:
        self.dismiss(event.button.id == "do")
