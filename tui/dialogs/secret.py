"""Shows a key's secret, this once, until it is copied or written to a file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Button, Static

from tui.dialogs.base import Dialog
from tui.dialogs.path import PathQuestion
from tui.files import write_new
from tui.language import say


class Secret(Dialog[Path]):
    """`name`: of the key that the secret is of. Answers with the file it was written to, if any."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c", "copy", "secret.copy", show=False),
        Binding("s", "save", "secret.save", show=False),
    ]

    def __init__(self, name: str, secret: str) -> None:
        super().__init__()
        self._of = name
        self._secret = secret
        self._file: Path | None = None

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog -secret"):
            yield Static(say("secret.title", key=self._of), classes="dialog-title", markup=False)
            yield Static(say("secret.text"), classes="dialog-text")
            yield Static(self._secret, id="secret", markup=False)
            yield Static(id="secret-told", classes="dialog-hint", markup=False)
            with Horizontal(classes="dialog-buttons"):
                yield Button(say("secret.copy"), id="copy", variant="primary", compact=True)
                yield Button(say("secret.save"), id="save", compact=True)
                yield Button(say("secret.done"), id="done", compact=True)

    def on_mount(self) -> None:
        self.query_one("#copy").focus()

    def action_copy(self) -> None:
        self.app.copy_to_clipboard(self._secret)
        self._tell(say("secret.copied"))

    @work
    async def action_save(self) -> None:
        name = re.sub(r"[^\w.-]+", "-", self._of).strip("-.") or "hearth"
        suggested = str(Path.home() / f"{name}.key")
        question = PathQuestion(
            say("secret.save_title"), say("secret.save_text"), suggested, must_exist=False
        )
        path = await self.app.push_screen_wait(question)
        if path is None:
            return
        try:
            write_new(path, f"{self._secret}\n", is_private=True)
        except OSError as error:
            self._tell(say("secret.not_saved", path=path, reason=error.strerror))
        else:
            self._file = path
            self._tell(say("secret.saved", path=path))

    def _tell(self, text: str) -> None:
        self.query_one("#secret-told", Static).update(text)
        self.query_one("#done").focus()

    def action_leave(self) -> None:
        self.dismiss(self._file)

    @on(Button.Pressed)
    def press(self, event: Button.Pressed) -> None:
        if event.button.id == "copy":
            self.action_copy()
        elif event.button.id == "save":
            self.action_save()
        else:
            self.action_leave()
