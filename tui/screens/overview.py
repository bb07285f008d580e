"""How the server is doing: what needs attention, models, speed, queue, and the requests under way."""

from __future__ import annotations

from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Horizontal, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from appliance.admin import ActiveRequest, Advice, ModelStatus, ServerStatus
from tui import format
from tui.history import History
from tui.language import say
from tui.screens.base import HearthScreen, flow
from tui.widgets.panel import Panel
from tui.widgets.plot import Line, Plot
from tui.widgets.spark import bars
from tui.widgets.states import state_text
from tui.widgets.table import Cell, LiveTable

TALL = 34  # rows from which plots and tables fit on one page
LABEL_CELLS = 19
SPARK_CELLS = 8


class Overview(HearthScreen):
    NAME = "overview"
    FEEDS = ("status", "requests", "routing")
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("p", "plots", "overview.plots"),
        Binding("x", "cancel_request", "overview.cancel"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._requests: dict[str, ActiveRequest] = {}
        self._share: tuple[int, int] | None = None
        self._shows_plots = False
        self._figures = Content()

    def body(self) -> ComposeResult:
        with VerticalScroll(id="overview", can_focus=False):
            with Panel(say("overview.attention"), id="overview-attention"):
                yield Static(id="overview-advice")
            with Panel(say("overview.models"), id="overview-models"):
                yield LiveTable(_labels("model", "state", "memory", "speed", "first_token"), id="models")
            with Horizontal(id="overview-middle"):
                with Panel(say("overview.figures"), id="overview-now"):
                    yield Static(id="figures")
                with Panel(say("overview.requests"), id="overview-requests"):
                    yield LiveTable(_labels("model", "phase", "since", "tokens"), id="requests")
                    yield Static(say("overview.no_requests"), id="idle", classes="muted")
            with Container(id="plots"):
                yield Plot(say("overview.plot_speed"), format.rate, id="plot-speed")
                yield Plot(say("overview.plot_first"), format.seconds, id="plot-first")
                yield Plot(say("overview.plot_queue"), lambda value: f"{value:.0f}", id="plot-queue")
                yield Plot(
                    say("overview.plot_memory"), lambda value: format.size(int(value)), id="plot-memory"
                )

    def composed(self) -> None:
        self._arrange(self.app.size.height)

    def on_resize(self) -> None:
        self._arrange(self.app.size.height)

    def _arrange(self, rows: int) -> None:
        """Plots beside the tables where there is room, else in their place."""
        is_tall = rows >= TALL
        self.query_one("#plots").display = is_tall or self._shows_plots
        self.query_one("#overview-middle").display = is_tall or not self._shows_plots

    def action_plots(self) -> None:
        self._shows_plots = not self._shows_plots
        self._arrange(self.app.size.height)

    def fed(self, feed: str, value: Any) -> None:
        if feed == "status":
            self._show(value)
        elif feed == "requests":
            self._show_requests(value)
        else:
            self._share = route_share(value)

    def _show(self, status: ServerStatus) -> None:
        history = self.hearth.history
        advice = self.query_one("#overview-attention")
        advice.display = bool(status.advice)
        if status.advice:
            self.query_one("#overview-advice", Static).update(_advice_text(status.advice))
        self.query_one("#models", LiveTable).show(
            {model.name: _model_row(model, status) for model in status.models}
        )
        told = figures(status, history, self._share)
        if (told.plain, told.spans) != (self._figures.plain, self._figures.spans):
            self._figures = told
            self.query_one("#figures", Static).update(told)
        if self.query_one("#plots").display:
            self._show_plots(history)

    def _show_plots(self, history: History) -> None:
        self.query_one("#plot-speed", Plot).show(
            Line("", "$primary", history.series(lambda sample: sample.tokens_per_second))
        )
        self.query_one("#plot-first", Plot).show(
            Line(
                say("overview.slowest"), "$secondary", history.series(lambda sample: sample.first_token_p99)
            ),
            Line(say("overview.median"), "$primary", history.series(lambda sample: sample.first_token_p50)),
        )
        self.query_one("#plot-queue", Plot).show(
            Line(say("overview.waiting"), "$secondary", history.series(lambda sample: sample.waiting)),
            Line(say("overview.running"), "$primary", history.series(lambda sample: sample.running)),
        )
        self.query_one("#plot-memory", Plot).show(
            Line("", "$primary", history.series(lambda sample: sample.memory))
        )

    def _show_requests(self, requests: tuple[ActiveRequest, ...]) -> None:
        self._requests = {request.id: request for request in requests}
        table = self.query_one("#requests", LiveTable)
        table.display = bool(requests)
        self.query_one("#idle").display = not requests
        table.show({request.id: _request_row(request) for request in requests})

    @flow
    async def action_cancel_request(self) -> None:
        chosen = self._requests.get(self.query_one("#requests", LiveTable).chosen or "")
        if chosen is None:
            self.notify(say("overview.no_requests"))
            return
        question = say("overview.cancel_question", model=chosen.model)
        if await self.confirm(
            question, say("overview.cancel_lost", tokens=chosen.tokens), say("overview.cancel_do")
        ):
            await self.call(lambda client: client.cancel_request(chosen.id), say("overview.cancelling"))
            self.hearth.feeds.refresh("requests")


def _labels(*names: str) -> list[str]:
    return [say(f"overview.{name}") for name in names]


def route_share(routing: dict[str, Any]) -> tuple[int, int]:
    """How many answers came from this machine, how many from online models."""
    counts = {"local": 0, "online": 0}
    for model in routing["models"]:
        counts[model["route"]] += sum(place["figures"]["answers"] for place in model["places"])
    return counts["local"], counts["online"]


def figures(status: ServerStatus, history: History, share: tuple[int, int] | None) -> Content:
    """The panel of figures: a label, a value, and how it went lately."""
    samples = history.samples
    last = samples[-1] if samples else None
    memory = status.memory
    online = sum(share) if share else 0
    rows = [
        (
            "overview.tokens_per_second",
            format.rate(status.tokens_per_second),
            bars([sample.tokens_per_second for sample in samples], SPARK_CELLS),
        ),
        (
            "overview.first_p50",
            format.seconds(last.first_token_p50 if last else None),
            bars([sample.first_token_p50 for sample in samples], SPARK_CELLS),
        ),
        ("overview.first_p99", format.seconds(last.first_token_p99 if last else None), ""),
        ("overview.queue", f"{status.running}, {status.waiting}", ""),
        (
            "overview.model_memory",
            format.share(memory.models_resident, memory.models),
            "",
        ),
        ("overview.machine_memory", format.share(memory.available, memory.total), ""),
    ]
    if share is not None and online:
        rows.append(("overview.route", f"{share[0]}, {share[1]}  ({share[0] / online:.0%})", ""))
    return Content("\n").join(
        Content.assemble(
            (format.fit(say(key), LABEL_CELLS), "$foreground-muted"), value, " ", (spark, "$primary")
        )
        for key, value, spark in rows
    )


def _model_row(model: ModelStatus, status: ServerStatus) -> tuple[Cell, ...]:
    speed = next((each for each in status.speeds if each.model == model.name), None)
    return (
        model.name,
        state_text(model),
        format.size(model.bytes_estimated) if model.bytes_estimated else "–",
        format.rate(speed.tokens_per_second) if speed and speed.tokens_per_second else "–",
        format.seconds(speed.first_token_p50) if speed else "–",
    )


def _request_row(request: ActiveRequest) -> tuple[Cell, ...]:
    tokens = f"{request.prompt_tokens:,} → {request.tokens:,}"
    return (
        request.model,
        say(f"phase.{request.phase}"),
        format.seconds(request.seconds),
        tokens,
    )


def _advice_text(advice: tuple[Advice, ...]) -> Content:
    marks = {"problem": ("✗ ", "$text-error"), "warning": ("⚠ ", "$text-warning")}
    return Content("\n").join(
        Content.assemble(
            marks[each.severity],
            (f"{each.subject}: ", "bold"),
            each.message,
            (f"  → {each.advice}", "$foreground-muted"),
        )
        for each in advice
    )
