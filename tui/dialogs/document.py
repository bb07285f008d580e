"""A document's text with one passage of it marked and in sight."""

from __future__ import annotations

import re
from typing import ClassVar

from rich.cells import cell_len
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.widgets import Static

from tui.dialogs.base import Dialog
from tui.language import say
from tui.passages import around

ABOVE = 3  # lines that stay in sight above the passage


class DocumentView(Dialog[None]):
    """`begins`, `ends`: the passage's characters in `text`; equal where none is meant."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("q,enter", "leave", "frame.leave", show=False)]

    def __init__(
        self, title: str, text: str, begins: int = 0, ends: int = 0, words: re.Pattern[str] | None = None
    ) -> None:
        super().__init__()
        self._title = title
        self._text, self._before = around(text, begins, ends, words)

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog -page") as page:
            page.border_title = self._title
            page.border_subtitle = say("document.hint")
            with VerticalScroll(id="passage-scroll"):
                yield Static(self._text, id="passage-text")

    def on_mount(self) -> None:
        self.query_one("#passage-scroll").focus()
        self.call_after_refresh(self._show)

    def _show(self) -> None:
        """Lines wrap: the passage is further down than its line's number says."""
        width = max(1, self.query_one("#passage-text").size.width)
        *whole, begun = self._before.split("\n")
        row = sum(max(1, -(-cell_len(line) // width)) for line in whole) + cell_len(begun) // width
        scroll = self.query_one("#passage-scroll", VerticalScroll)
        scroll.scroll_to(y=max(0, row - ABOVE), animate=False, force=True)
