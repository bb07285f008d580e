"""Asks for a line of text: a name, a path."""

from __future__ import annotations

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Input, Static

from tui.dialogs.base import Dialog
from tui.language import say


class TextQuestion(Dialog[str]):
    def __init__(self, title: str, text: str = "", value: str = "", placeholder: str = "") -> None:
        super().__init__()
        self._title = title
        self._text = text
        self._value = value
        self._placeholder = placeholder

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static(self._title, classes="dialog-title", markup=False)
            if self._text:
                yield Static(self._text, classes="dialog-text", markup=False)
            yield Input(self._value, placeholder=self._placeholder, id="text", compact=True)
            yield Static(say("frame.enter_hint"), classes="dialog-hint")

    def on_mount(self) -> None:
        self.query_one(Input).focus()

    @on(Input.Submitted)
    def answer(self, event: Input.Submitted) -> None:
        self.dismiss(event.value.strip() or None)
