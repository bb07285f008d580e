"""Asks for the key that the server wants."""

from __future__ import annotations

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Input, Static

from tui.dialogs.base import Dialog
from tui.language import say


class KeyQuestion(Dialog[str]):
    """`reason`: what the server said."""

    def __init__(self, reason: str) -> None:
        super().__init__()
        self._reason = reason

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static(say("key.title"), classes="dialog-title")
            yield Static(self._reason, classes="dialog-text", markup=False)
            yield Input(password=True, placeholder=say("key.placeholder"), id="key", compact=True)
            yield Static(say("key.hint"), classes="dialog-hint")

    def on_mount(self) -> None:
        self.query_one(Input).focus()

    @on(Input.Submitted)
    def answer(self, event: Input.Submitted) -> None:
        self.dismiss(event.value.strip() or None)
