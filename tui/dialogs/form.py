"""A few lines to fill in: texts and choices, each with its name. What is wrong is told beside it, at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import ClassVar, NamedTuple, TypeVar

from textual import on
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.widgets import Button, Input, Select, Static

from appliance.errors import HearthError, InvalidValue
from tui import format
from tui.dialogs.base import Dialog
from tui.language import say

LABEL_CELLS = 20

Done = TypeVar("Done")


class Field(NamedTuple):
    """`choices`: values and their words; without any it is a line of text. `hint` stands in an empty line."""

    key: str
    label: str
    value: str = ""
    hint: str = ""
    choices: tuple[tuple[str, str], ...] = ()


class Form(Dialog[dict[str, str]]):
    """Answers with the values by key. `check` raises InvalidValue whose `param` is the key that is meant."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("ctrl+s", "accept", "frame.accept", show=False)]

    def __init__(
        self,
        title: str,
        fields: Sequence[Field],
        *,
        text: str = "",
        do: str = "",
        check: Callable[[dict[str, str]], object] | None = None,
        wrong: HearthError | None = None,
    ) -> None:
        super().__init__()
        self._title = title
        self._fields = tuple(fields)
        self._text = text
        self._do = do or say("frame.accept")
        self._check = check
        self._wrong = wrong

    def compose(self) -> ComposeResult:
        with VerticalScroll(classes="dialog -form", can_focus=False):
            yield Static(self._title, classes="dialog-title", markup=False)
            if self._text:
                yield Static(self._text, classes="dialog-text", markup=False)
            for field in self._fields:
                with Horizontal(classes="form-line"):
                    yield Static(format.fit(field.label, LABEL_CELLS), classes="form-label", markup=False)
                    yield _entry(field)
            yield Static(id="form-wrong", markup=False)
            with Horizontal(classes="dialog-buttons"):
                yield Button(say("frame.leave"), id="leave", compact=True)
                yield Button(self._do, id="do", variant="primary", compact=True)

    def on_mount(self) -> None:
        self._entry(self._fields[0].key).focus()
        if self._wrong is not None:
            self._tell(self._wrong)

    @property
    def values(self) -> dict[str, str]:
        return {field.key: _value(self._entry(field.key)) for field in self._fields}

    @on(Button.Pressed)
    def _press(self, event: Button.Pressed) -> None:
        if event.button.id == "do":
            self.action_accept()
        else:
            self.dismiss(None)

    @on(Input.Submitted)
    def action_accept(self) -> None:
        values = self.values
        try:
            if self._check is not None:
                self._check(values)
        except InvalidValue as error:
            self._tell(error)
        else:
            self.dismiss(values)

    def _tell(self, error: HearthError) -> None:
        line = self.query_one("#form-wrong", Static)
        line.update(f"✗ {error.message}")
        line.display = True
        if any(field.key == error.param for field in self._fields):
            self._entry(str(error.param)).focus()

    def _entry(self, key: str) -> Input | Select[str]:
        entry = self.query_one(f"#form-{key}")
        assert isinstance(entry, Input | Select)
        return entry


async def filled(
    app: App[None],
    title: str,
    fields: Sequence[Field],
    use: Callable[[dict[str, str]], Awaitable[Done]],
    *,
    text: str = "",
    do: str = "",
    check: Callable[[dict[str, str]], object] | None = None,
) -> Done | None:
    """Asks until `use` takes the values, or the operator leaves (None): what was written is not lost."""
    wrong: HearthError | None = None
    while True:
        form = Form(title, fields, text=text, do=do, check=check, wrong=wrong)
        values = await app.push_screen_wait(form)
        if values is None:
            return None
        try:
            return await use(values)
        except HearthError as error:
            fields = tuple(field._replace(value=values[field.key]) for field in fields)
            wrong = error


def _entry(field: Field) -> Input | Select[str]:
    id = f"form-{field.key}"
    if not field.choices:
        return Input(field.value, placeholder=field.hint, id=id, compact=True, select_on_focus=False)
    options = [(words, value) for value, words in field.choices]
    return Select(options, value=field.value, allow_blank=False, id=id, compact=True)


def _value(entry: Input | Select[str]) -> str:
    return entry.value.strip() if isinstance(entry, Input) else str(entry.value)
