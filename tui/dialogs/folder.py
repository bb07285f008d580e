"""Shows a folder of the server's machine: where to go from there, and which models lie in it."""

from __future__ import annotations

from pathlib import PurePath
from typing import NamedTuple

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from appliance.admin import Folder, FoundModel
from tui import format
from tui.dialogs.base import Dialog
from tui.language import say


class Chosen(NamedTuple):
    """A folder to look into, or a model to bring in."""

    path: str
    is_model: bool


class FolderQuestion(Dialog[Chosen]):
    def __init__(self, folder: Folder) -> None:
        super().__init__()
        self._folder = folder

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog -wide"):
            yield Static(say("folder.title"), classes="dialog-title")
            yield Input(self._folder.path, id="path", compact=True)
            yield OptionList(*self._options(), id="entries")
            yield Static(say("folder.hint"), classes="dialog-hint")

    def on_mount(self) -> None:
        self.query_one(OptionList).focus()

    def _options(self) -> list[Option]:
        folder = self._folder
        found = [Option(_model(model), id=f"model:{model.path}") for model in folder.models]
        around = [*((folder.parent,) if folder.parent else ()), *folder.media]
        jumps = [
            Option(
                Content.assemble((f"{'↑' if path == folder.parent else '⏏'} ", "$accent"), path),
                id=f"jump:{path}",
            )
            for path in dict.fromkeys(around)
        ]
        inner = [
            Option(Content.assemble(("▸ ", "$foreground-muted"), PurePath(path).name), id=f"folder:{path}")
            for path in folder.folders
            if path not in folder.media
        ]
        return [*found, *jumps, *inner]

    @on(OptionList.OptionSelected)
    def choose(self, event: OptionList.OptionSelected) -> None:
        kind, _, path = (event.option.id or "").partition(":")
        self.dismiss(Chosen(path, kind == "model"))

    @on(Input.Submitted)
    def go(self, event: Input.Submitted) -> None:
        path = event.value.strip()
        self.dismiss(Chosen(path, path.lower().endswith(".gguf")))


def _model(model: FoundModel) -> Content:
    return Content.assemble(
        ("● ", "$primary"),
        (model.name, "bold"),
        (f"  {model.format}  {format.size(model.bytes)}", "$foreground-muted"),
    )
