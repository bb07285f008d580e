"""The keys of a screen and what the screen is for, made from its bindings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from tui import language
from tui.dialogs.base import Dialog
from tui.format import fit
from tui.language import say
from tui.screens.base import HearthScreen

KEY_CELLS = 14


class Help(Dialog[None]):
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("question_mark,f1,q", "leave", "frame.leave", show=False)
    ]

    def __init__(self, about: HearthScreen) -> None:
        super().__init__()
        self._about = about

    def compose(self) -> ComposeResult:
        place = self._about.NAME
        with VerticalScroll(classes="dialog -tall"):
            yield Static(say(f"places.{place}"), classes="dialog-title")
            yield Static(say(f"places_help.{place}"), classes="dialog-text")
            yield Static(self._keys(active.binding for active in self._about.own_bindings()))
            yield Static(say("frame.everywhere"), classes="dialog-title")
            yield Static(self._keys(self._everywhere()))
            yield Static(say("frame.mouse_help"), classes="dialog-text")

    def _everywhere(self) -> Iterable[Binding]:
        for bindings in self.app._bindings.key_to_bindings.values():
            for binding in bindings:
                if language.has(binding.description) and not binding.description.startswith("places."):
                    yield binding
        yield Binding("1…9", "", "frame.go_places")
        yield Binding("ctrl+p", "", "frame.palette")
        yield Binding("tab", "", "frame.focus_next")

    def _keys(self, bindings: Iterable[Binding]) -> Content:
        keys: dict[str, list[str]] = {}
        for binding in bindings:
            text = say(binding.description) if language.has(binding.description) else binding.description
            keys.setdefault(text, []).append(self.app.get_key_display(binding))
        return Content("\n").join(
            Content.assemble((fit(" ".join(dict.fromkeys(names)), KEY_CELLS), "bold $accent"), text)
            for text, names in keys.items()
        )
