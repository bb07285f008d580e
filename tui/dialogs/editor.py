"""A text to edit, whole: hearth.toml. Ctrl-S answers with it."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Static, TextArea

from tui.dialogs.base import Dialog
from tui.language import say


class Editor(Dialog[str]):
    """`wrong`: what was wrong with the text as it is."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("ctrl+s", "accept", "frame.accept", show=False)]

    def __init__(self, title: str, text: str, wrong: str = "") -> None:
        super().__init__()
        self._title = title
        self._text = text
        self._wrong = wrong

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog -page") as page:
            page.border_title = self._title
            page.border_subtitle = say("editor.hint")
            yield TextArea(self._text, show_line_numbers=True, soft_wrap=False, id="editor", compact=True)
            yield Static(f"✗ {self._wrong}", id="form-wrong", markup=False)

    def on_mount(self) -> None:
        self.query_one("#form-wrong").display = bool(self._wrong)
        self.query_one(TextArea).focus()

    def action_accept(self) -> None:
        self.dismiss(self.query_one(TextArea).text)
