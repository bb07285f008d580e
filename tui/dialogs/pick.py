"""One of several, from a list."""

from __future__ import annotations

from collections.abc import Mapping

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from tui.dialogs.base import Dialog


class Pick(Dialog[str]):
    """`choices`: what is answered → what is shown."""

    def __init__(self, title: str, choices: Mapping[str, str]) -> None:
        super().__init__()
        self._title = title
        self._choices = list(choices.items())

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog -list"):
            yield Static(self._title, classes="dialog-title", markup=False)
            yield OptionList(*(Option(shown) for _, shown in self._choices), markup=False)

    def on_mount(self) -> None:
        self.query_one(OptionList).focus()

    @on(OptionList.OptionSelected)
    def choose(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(self._choices[event.option_index][0])
