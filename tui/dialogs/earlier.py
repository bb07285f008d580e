"""Conversations that were had before: Enter answers with one to go on with, d with one to delete."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import ClassVar, NamedTuple

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Button, DataTable, Static

from tui import format
from tui.conversation import Conversation
from tui.dialogs.base import Dialog
from tui.language import say
from tui.widgets.table import Cell, LiveTable

COLUMNS = ("when", "question", "model")
QUESTION_CELLS, MODEL_CELLS = 36, 20


class Chosen(NamedTuple):
    conversation: Conversation
    is_to_go: bool


class Earlier(Dialog[Chosen]):
    """`text`: where they lie."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("d,delete", "delete", "earlier.delete", show=False)]

    def __init__(self, conversations: Sequence[Conversation], text: str) -> None:
        super().__init__()
        self._conversations: Mapping[str, Conversation] = {each.id: each for each in conversations}
        self._text = text

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog -page"):
            yield Static(say("earlier.title"), classes="dialog-title")
            yield LiveTable([say(f"earlier.{name}") for name in COLUMNS], id="earlier")
            yield Static(self._text, classes="dialog-hint", markup=False)
            with Horizontal(classes="dialog-buttons"):
                yield Button(say("frame.leave"), id="leave", compact=True)
                yield Button(say("earlier.delete"), id="delete", compact=True)
                yield Button(say("earlier.open"), id="open", variant="primary", compact=True)

    def on_mount(self) -> None:
        table = self.query_one(LiveTable)
        table.show({id: row(each) for id, each in self._conversations.items()})
        table.focus()

    @on(DataTable.RowSelected)
    def open(self) -> None:
        self._choose(is_to_go=False)

    def action_delete(self) -> None:
        self._choose(is_to_go=True)

    @on(Button.Pressed)
    def press(self, event: Button.Pressed) -> None:
        if event.button.id == "leave":
            self.dismiss(None)
        else:
            self._choose(is_to_go=event.button.id == "delete")

    def _choose(self, *, is_to_go: bool) -> None:
        chosen = self._conversations.get(self.query_one(LiveTable).chosen or "")
        if chosen is not None:
            self.dismiss(Chosen(chosen, is_to_go))


def row(conversation: Conversation) -> tuple[Cell, ...]:
    when = datetime.fromtimestamp(conversation.changed_at).strftime("%Y-%m-%d %H:%M")
    return (
        when,
        format.shorten(conversation.title, QUESTION_CELLS),
        format.shorten(conversation.model, MODEL_CELLS),
    )
