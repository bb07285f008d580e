"""A passage that an answer cites: where it stands, and its words."""

from __future__ import annotations

from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import Static

from tui.conversation import place
from tui.dialogs.base import Dialog
from tui.language import say


class Passage(Dialog[None]):
    """`source`: a citation as the API tells it; `why`: the reason why its document is not shown."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter,q", "leave", "frame.leave", show=False)]

    def __init__(self, source: dict[str, Any], why: str) -> None:
        super().__init__()
        self._source = source
        self._why = why

    def compose(self) -> ComposeResult:
        source = self._source
        with VerticalScroll(classes="dialog -tall"):
            yield Static(f"[{source['number']}] {place(source)}", classes="dialog-title", markup=False)
            yield Static(source["quote"], classes="dialog-text", markup=False)
            where = say(
                "passage.where", begins=source["begins"], ends=source["ends"], score=f"{source['score']:.2f}"
            )
            yield Static(where, classes="dialog-hint", markup=False)
            yield Static(self._why, classes="dialog-hint", markup=False)
