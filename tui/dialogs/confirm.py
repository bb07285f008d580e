"""Asks before something is lost, and says what. No is the answer that a hasty Enter gives."""

from __future__ import annotations

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widgets import Button, Static

from tui.dialogs.base import Dialog
from tui.language import say


class Confirm(Dialog[bool]):
    """`loss`: what is gone afterwards; `do`: what the button says that does it."""

    def __init__(self, question: str, loss: str, do: str = "") -> None:
        super().__init__()
        self._question = question
        self._loss = loss
        self._do = do or say("frame.yes")

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static(self._question, classes="dialog-title", markup=False)
            yield Static(self._loss, classes="dialog-text", markup=False)
            with Horizontal(classes="dialog-buttons"):
                yield Button(say("frame.no"), id="no", compact=True)
                yield Button(self._do, id="yes", variant="error", compact=True)

    def on_mount(self) -> None:
        self.query_one("#no").focus()

    @on(Button.Pressed)
    def answer(self, event: Button.Pressed) -> None:
        self.dismiss(event.button.id == "yes")
