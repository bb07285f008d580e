"""Shows a key's secret, this once."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Button, Static

from tui.dialogs.base import Dialog
from tui.language import say


class Secret(Dialog[None]):
    """`name`: of the key that the secret is of."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("c", "copy", "secret.copy", show=False)]

    def __init__(self, name: str, secret: str) -> None:
        super().__init__()
        self._of = name
        self._secret = secret

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog -secret"):
            yield Static(say("secret.title", key=self._of), classes="dialog-title", markup=False)
            yield Static(say("secret.text"), classes="dialog-text")
            yield Static(self._secret, id="secret", markup=False)
            yield Static(id="secret-copied", classes="dialog-hint")
            with Horizontal(classes="dialog-buttons"):
                yield Button(say("secret.copy"), id="copy", variant="primary", compact=True)
                yield Button(say("secret.done"), id="done", compact=True)

    def on_mount(self) -> None:
        self.query_one("#copy").focus()

    def action_copy(self) -> None:
        self.app.copy_to_clipboard(self._secret)
        self.query_one("#secret-copied", Static).update(say("secret.copied"))
        self.query_one("#done").focus()

    @on(Button.Pressed)
    def press(self, event: Button.Pressed) -> None:
        if event.button.id == "copy":
            self.action_copy()
        else:
            self.dismiss(None)
