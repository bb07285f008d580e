"""A titled part of a screen."""

from __future__ import annotations

from textual.containers import Vertical


class Panel(Vertical):
    """The title stands in the upper border."""

    def __init__(self, title: str, *, id: str | None = None, classes: str = "") -> None:
        super().__init__(id=id, classes=f"panel {classes}".strip())
        self.border_title = title
