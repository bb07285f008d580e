"""What loading a model takes and what is free for it, before it is loaded."""

from __future__ import annotations

from typing import NamedTuple

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Button, Input, Static

from appliance.admin import ModelStatus, ModelStatusList
from tui import format
from tui.dialogs.base import Dialog
from tui.language import say
from tui.widgets.tick import Tick

LABEL_CELLS = 18


class Loading(NamedTuple):
    """`keep_alive`: how long it stays unused, as the API takes it; empty: as set."""

    keep_alive: str
    is_pinned: bool


class LoadQuestion(Dialog[Loading]):
    def __init__(self, model: ModelStatus, all_models: ModelStatusList) -> None:
        super().__init__()
        self._model = model
        self._all = all_models

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static(say("load.title", name=self._model.name), classes="dialog-title", markup=False)
            yield Static(self._estimate(), classes="dialog-text")
            yield Input(placeholder=say("load.keep_alive"), id="keep-alive", compact=True)
            yield Tick(say("load.pin"), self._model.is_pinned, id="pin", compact=True)
            with Horizontal(classes="dialog-buttons"):
                yield Button(say("frame.no"), id="no", compact=True)
                yield Button(say("load.do"), id="yes", variant="primary", compact=True)

    def on_mount(self) -> None:
        self.query_one("#yes").focus()

    def _estimate(self) -> Content:
        """The numbers, and what they mean for the models that are there."""
        model, free = self._model, self._all.memory - self._all.memory_resident
        rows = [
            ("load.context", say("load.tokens", count=format.count(model.context_length))),
            ("load.memory", format.size(model.bytes_estimated)),
            ("load.free", format.share(free, self._all.memory)),
        ]
        if model.bytes_estimated > self._all.memory:
            verdict = (say("load.never_fits"), "$text-error")
        elif model.bytes_estimated > free:
            verdict = (say("load.makes_room"), "$text-warning")
        else:
            verdict = (say("load.fits"), "$text-success")
        lines = [
            Content.assemble((format.fit(say(key), LABEL_CELLS), "$foreground-muted"), value)
            for key, value in rows
        ]
        needs = Content.styled(model.needs, "$foreground-muted")
        return Content("\n").join([*lines, needs, Content.styled(*verdict)])

    @on(Button.Pressed)
    def answer(self, event: Button.Pressed) -> None:
        if event.button.id == "yes":
            self._accept()
        else:
            self.dismiss(None)

    @on(Input.Submitted)
    def _accept(self) -> None:
        kept = self.query_one("#keep-alive", Input).value.strip()
        self.dismiss(Loading(kept, self.query_one("#pin", Tick).value))
