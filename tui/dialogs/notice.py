"""Something to read, until it is put away."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Button, Static

from tui.dialogs.base import Dialog
from tui.language import say


class Notice(Dialog[None]):
    BINDINGS: ClassVar[list[BindingType]] = [Binding("q", "leave", "frame.leave", show=False)]

    def __init__(self, title: str, text: Content) -> None:
        super().__init__()
        self._title = title
        self._text = text

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog -changes"):
            yield Static(self._title, classes="dialog-title", markup=False)
            with VerticalScroll(id="changes-scroll"):
                yield Static(self._text)
            with Horizontal(classes="dialog-buttons"):
                yield Button(say("frame.leave"), id="leave", compact=True)

    def on_mount(self) -> None:
        self.query_one("#leave").focus()

    @on(Button.Pressed)
    def press(self) -> None:
        self.dismiss(None)
