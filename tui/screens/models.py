"""The models of the server's machine: in memory or not, what they need, bringing them in, trying them."""

from __future__ import annotations

from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import DataTable, Static

from appliance.admin import ModelStatus, ModelStatusList
from tui import clock, format
from tui.dialogs.load import LoadQuestion
from tui.dialogs.text import TextQuestion
from tui.language import say
from tui.screens.base import flow
from tui.screens.models_work import ModelsWork
from tui.widgets.panel import Panel
from tui.widgets.states import state_text
from tui.widgets.table import Cell, LiveTable

LABEL_CELLS = 16
TRY_TOKENS = 160


class Models(ModelsWork):
    NAME = "models"
    FEEDS = ("models",)
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("l", "load", "models.load"),
        Binding("u", "unload", "models.unload"),
        Binding("k", "pin", "models.pin"),
        Binding("i", "import_model", "models.import"),
        Binding("f", "fetch", "models.fetch"),
        Binding("v", "verify", "models.verify"),
        Binding("t", "try_it", "models.try"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._all = ModelStatusList(data=(), memory=0, memory_resident=0)
        self._answer: Content | None = None

    def body(self) -> ComposeResult:
        columns = ("model", "role", "state", "memory", "context", "last_used")
        with VerticalScroll(id="models-body", can_focus=False):
            with Panel(say("models.title"), id="models-list"):
                yield LiveTable([say(f"models.{name}") for name in columns], id="models")
            with Panel(say("models.details"), id="models-details"):
                yield Static(id="details")
            with Panel(say("models.answer"), id="models-answer"):
                yield Static(id="answer")

    def composed(self) -> None:
        self.query_one("#models-answer").display = self._answer is not None
        self.query_one("#models", LiveTable).focus()

    def fed(self, feed: str, value: Any) -> None:
        self._all = value
        table = self.query_one("#models", LiveTable)
        table.show({model.name: _row(model) for model in value.data})
        memory = format.share(value.memory_resident, value.memory)
        self.query_one("#models-list").border_subtitle = say("models.memory_taken", memory=memory)
        self._show_details()

    def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        self._show_details()

    def _show_details(self) -> None:
        if (model := self._chosen()) is not None:
            self.query_one("#models-details").border_title = model.name
            self.query_one("#details", Static).update(details(model))

    def _chosen(self) -> ModelStatus | None:
        name = self.query_one("#models", LiveTable).chosen
        return next((model for model in self._all.data if model.name == name), None)

    # In and out of memory

    @flow
    async def action_load(self) -> None:
        if (model := self._chosen()) is None:
            return
        wanted = await self.app.push_screen_wait(LoadQuestion(model, self._all))
        if wanted is None:
            return
        name = model.name
        if wanted.is_pinned != model.is_pinned:
            await self.call(
                lambda client: client.pin_model(name, pinned=wanted.is_pinned), say("models.pinning")
            )
        await self.load(name, wanted.keep_alive or None)
        self.notify(say("models.is_ready", name=name))

    @flow
    async def action_unload(self) -> None:
        if (model := self._chosen()) is None:
            return
        name, busy = model.name, model.running + model.waiting
        if busy and not await self.confirm(
            say("models.unload_question", name=name),
            say("models.unload_lost", count=busy),
            say("models.unload"),
        ):
            return
        await self.call(
            lambda client: client.unload_model(name, force=bool(busy)), say("models.unloading", name=name)
        )
        self.models_changed()

    @flow
    async def action_pin(self) -> None:
        if (model := self._chosen()) is not None:
            name, pinned = model.name, not model.is_pinned
            await self.call(lambda client: client.pin_model(name, pinned=pinned), say("models.pinning"))
            self.models_changed()

    # Files

    @flow
    async def action_import_model(self) -> None:
        await self.bring_in()

    @flow
    async def action_fetch(self) -> None:
        await self.fetch()

    @flow
    async def action_verify(self) -> None:
        if (model := self._chosen()) is None:
            return
        what = say("models.verifying", name=model.name)
        job = await self.call(lambda client: client.verify_model(model.name), what)
        await self.watch_job(job, what)
        self.notify(say("models.verified", name=model.name))

    # Trying

    @flow
    async def action_try_it(self) -> None:
        model = self._chosen()
        if model is None or model.role != "chat":
            self.notify(say("models.try_chat_only"))
            return
        prompt = await self.app.push_screen_wait(
            TextQuestion(say("models.try_title", name=model.name), value=say("models.try_prompt"))
        )
        if prompt is None:
            return
        self.query_one("#models-answer").display = True
        messages = [{"role": "user", "content": prompt}]
        began, first, text, pieces = clock.ticks(), 0.0, "", 0
        async for words in self.stream(
            lambda client: client.stream_chat(model.name, messages, max_completion_tokens=TRY_TOKENS),
            say("models.trying", name=model.name),
        ):
            first = first or clock.ticks() - began
            text, pieces = text + "".join(words), pieces + len(words)
            rate = (pieces - 1) / max(1e-3, clock.ticks() - began - first)
            figures = say("models.try_figures", first=format.seconds(first), rate=format.rate(rate))
            self._answer = Content.assemble(text, "\n", (figures, "$foreground-muted"))
            for shown in self.query("#answer").results(Static):  # none while the screen is put together anew
                shown.update(self._answer)


def details(model: ModelStatus) -> Content:
    """Everything known of a model that the table has no room for."""
    rows = [
        ("models.needs", model.needs or say("models.shares_encoder")),
        ("models.requests", say("models.request_counts", running=model.running, waiting=model.waiting)),
        ("models.last_used", _ago(model.last_used)),
        ("models.keep_alive", stays(model)),
    ]
    if model.adapters:
        rows.append(("models.adapters", ", ".join(model.adapters)))
    lines = [
        Content.assemble((format.fit(say(key), LABEL_CELLS), "$foreground-muted"), value)
        for key, value in rows
    ]
    if model.error:
        lines.append(Content.assemble(("✗ ", "bold $text-error"), model.error))
    return Content("\n").join(lines)


def stays(model: ModelStatus) -> str:
    """How long a model stays in memory."""
    if model.is_pinned:
        return say("models.pinned")
    if model.expires_at is not None:
        return say("models.stays_for", time=format.seconds(max(0.0, model.expires_at - clock.now())))
    return say("models.while_room") if model.keep_alive < 0 else say("models.until_done")


def _ago(moment: float | None) -> str:
    if moment is None:
        return say("models.never")
    return say("models.ago", time=format.seconds(max(0.0, clock.now() - moment)))


def _row(model: ModelStatus) -> tuple[Cell, ...]:
    return (
        model.name,
        say(f"role.{model.role}"),
        state_text(model),
        format.size(model.bytes_estimated) if model.bytes_estimated else "–",
        format.count(model.context_length),
        _ago(model.last_used),
    )
