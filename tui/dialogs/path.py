"""Asks for a file or folder of the machine that the UI runs on; the right arrow takes what is suggested."""

from __future__ import annotations

import asyncio
from pathlib import Path

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.suggester import Suggester
from textual.widgets import Input, Static

from tui.dialogs.base import Dialog
from tui.language import say

MOST_ENTRIES = 5000


class PathQuestion(Dialog[Path]):
    """`must_exist`: what is named has to be there already."""

    def __init__(self, title: str, text: str = "", value: str = "", *, must_exist: bool = True) -> None:
        super().__init__()
        self._title = title
        self._text = text
        self._value = value
        self._must_exist = must_exist

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static(self._title, classes="dialog-title", markup=False)
            if self._text:
                yield Static(self._text, classes="dialog-text", markup=False)
            yield Input(
                self._value,
                placeholder=say("path.placeholder"),
                suggester=Paths(),
                id="path",
                compact=True,
                select_on_focus=False,
            )
            yield Static(id="form-wrong", markup=False)
            yield Static(say("path.hint"), classes="dialog-hint")

    def on_mount(self) -> None:
        self.query_one(Input).focus()

    @on(Input.Submitted)
    def answer(self, event: Input.Submitted) -> None:
        text = event.value.strip()
        if not text:
            self.dismiss(None)
            return
        path = Path(text).expanduser()
        missing = path if self._must_exist else path.parent
        if missing.exists():
            self.dismiss(path)
            return
        line = self.query_one("#form-wrong", Static)
        line.update(say("path.missing", path=missing))
        line.display = True


class Paths(Suggester):
    """The first entry of the folder that begins as what is written."""

    def __init__(self) -> None:
        super().__init__(use_cache=False, case_sensitive=True)

    async def get_suggestion(self, value: str) -> str | None:
        folder, separator, begin = value.rpartition("/")
        if not separator and not value:
            return None
        try:
            found = await asyncio.to_thread(_begin_with, f"{folder}{separator}", begin)
        except (OSError, RuntimeError):
            return None
        return f"{folder}{separator}{found[0]}" if found else None


def _begin_with(folder: str, begin: str) -> list[str]:
    """Names in the folder, sorted; folders end with a slash. Raises OSError, RuntimeError."""
    names = []
    for number, entry in enumerate(Path(folder or ".").expanduser().iterdir()):
        if number == MOST_ENTRIES:
            break
        if entry.name.startswith(begin) and (begin or not entry.name.startswith(".")):
            names.append(entry.name + ("/" if entry.is_dir() else ""))
    return sorted(names)
