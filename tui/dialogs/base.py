"""A question in the middle of the screen, over what asks it. Escape answers: no."""

from __future__ import annotations

from typing import ClassVar, TypeVar

from textual.binding import Binding, BindingType
from textual.screen import ModalScreen

Answer = TypeVar("Answer")


class Dialog(ModalScreen[Answer | None]):
    """Composes a container with the class `dialog`; answers with `dismiss`."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "frame.leave", show=False)]

    def action_leave(self) -> None:
        self.dismiss(None)
