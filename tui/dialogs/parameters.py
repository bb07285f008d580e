"""The system prompt and the parameters of a conversation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widgets import Button, Input, Static, TextArea

from tui.conversation import Parameters
from tui.dialogs.base import Dialog
from tui.language import say

# field → (how text becomes its value, least, most)
NUMBERS: dict[str, tuple[Callable[[str], float], float, float]] = {
    "temperature": (float, 0, 2),
    "top_p": (float, 0, 1),
    "max_tokens": (int, 1, 1_000_000),
    "seed": (int, 0, 2**32 - 1),
}


class ParametersQuestion(Dialog[Parameters]):
    def __init__(self, parameters: Parameters) -> None:
        super().__init__()
        self._parameters = parameters

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog -tall"):
            yield Static(say("parameters.title"), classes="dialog-title")
            yield Static(say("parameters.system"))
            yield TextArea(self._parameters.system, id="system", compact=True)
            for name in NUMBERS:
                value = getattr(self._parameters, name)
                with Horizontal(classes="field"):
                    yield Static(say(f"parameters.{name}"), classes="field-label")
                    yield Input(
                        "" if value is None else str(value),
                        placeholder=say("parameters.as_server"),
                        id=name,
                        compact=True,
                    )
            yield Static(id="wrong")
            with Horizontal(classes="dialog-buttons"):
                yield Button(say("frame.no"), id="no", compact=True)
                yield Button(say("parameters.do"), id="yes", variant="primary", compact=True)

    def on_mount(self) -> None:
        self.query_one("#system").focus()

    @on(Button.Pressed)
    def answer(self, event: Button.Pressed) -> None:
        if event.button.id == "yes":
            self._accept()
        else:
            self.dismiss(None)

    @on(Input.Submitted)
    def _accept(self) -> None:
        values: dict[str, Any] = {}
        for name, (read, least, most) in NUMBERS.items():
            text = self.query_one(f"#{name}", Input).value.strip()
            try:
                value = read(text) if text else None
            except ValueError:
                value = least - 1
            if value is not None and not least <= value <= most:
                wrong = say("parameters.wrong", name=say(f"parameters.{name}"), least=least, most=most)
                self.query_one("#wrong", Static).update(wrong)
                self.query_one(f"#{name}").focus()
                return
            values[name] = value
        self.dismiss(Parameters(system=self.query_one("#system", TextArea).text.strip(), **values))
