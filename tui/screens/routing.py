"""Which model answers, local or online: how each does, and where a request would go and why."""

from __future__ import annotations

from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, VerticalScroll
from textual.widgets import DataTable, Static

from appliance.errors import HearthError
from tui import routes
from tui.dialogs.form import filled
from tui.language import say
from tui.screens.base import BREAKPOINTS, HearthScreen, flow
from tui.widgets.panel import Panel
from tui.widgets.table import LiveTable

COLUMNS = ("model", "where", "health", "answers", "errors", "first_token", "whole", "cost")
ARM_COLUMNS = ("arm", "answers", "errors", "first_token", "whole", "cost")


class Routing(HearthScreen):
    NAME = "routing"
    FEEDS = ("routing",)
    AUTO_FOCUS = "#routing-models"
    HORIZONTAL_BREAKPOINTS = BREAKPOINTS
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("w", "ask", "routing.ask"),
        Binding("c", "put_off", "routing.put_off", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._models: list[dict[str, Any]] = []
        self._is_decided = False  # then the decision stands in the place of the model's figures

    def body(self) -> ComposeResult:
        with Container(id="routing"):
            with Panel(say("routing.models"), id="routing-list"):
                yield Static(id="routing-state")
                yield LiveTable([say(f"routing.{name}") for name in COLUMNS], id="routing-models")
            with VerticalScroll(id="routing-below", can_focus=False):
                with Panel("", id="routing-detail"):
                    yield Static(id="routing-about")
                with Panel(say("routing.decision"), id="routing-decision"):
                    yield Static(say("routing.ask_hint"), id="routing-answer", classes="muted")
                with Panel(say("routing.arms"), id="routing-split"):
                    yield LiveTable([say(f"routing.{name}") for name in ARM_COLUMNS], id="routing-arms")

    def fed(self, feed: str, value: Any) -> None:
        self._models = value["models"]
        self.query_one("#routing-state", Static).update(routes.state(value))
        table = self.query_one("#routing-models", LiveTable)
        table.show(routes.model_rows(self._models))
        self._explain(table.chosen)
        arms = value["arms"]
        self.query_one("#routing-split").display = bool(arms)
        self.query_one("#routing-arms", LiveTable).show(routes.arm_rows(arms))

    @on(DataTable.RowHighlighted, "#routing-models")
    def _follow_cursor(self, event: DataTable.RowHighlighted) -> None:
        self._explain(event.row_key.value)

    def _explain(self, key: str | None) -> None:
        platform, _, rest = (key or "").partition(" ")
        name, _, instance = rest.rpartition(" ")
        found = [each for each in self._models if (each["platform"], each["id"]) == (platform, name)]
        panel = self.query_one("#routing-detail")
        panel.display = bool(found) and not self._is_decided
        if found:
            panel.border_title = name
            self.query_one("#routing-about", Static).update(routes.about(found[0], instance))

    @flow
    async def action_ask(self) -> None:
        """A dry run: nothing is asked of any model."""
        try:
            bases = await self.call(lambda client: client.bases(), say("routing.asking"))
        except HearthError:
            bases = []  # a server without knowledge bases routes all the same

        async def explain(values: dict[str, str]) -> Any:
            body = routes.asked(values)
            return await self.call(
                lambda client: client.post("/admin/v1/routing/explain", body), say("routing.asking")
            )

        found = await filled(
            self.app,
            say("routing.ask_title"),
            routes.question([base["name"] for base in bases]),
            explain,
            text=say("routing.ask_text"),
            do=say("routing.ask_do"),
        )
        if found is not None:
            answer = self.query_one("#routing-answer", Static)
            answer.update(routes.decision(found))
            answer.remove_class("muted")
            self._is_decided = True
            self.query_one("#routing-detail").display = False

    def action_put_off(self) -> None:
        answer = self.query_one("#routing-answer", Static)
        answer.update(say("routing.ask_hint"))
        answer.add_class("muted")
        self._is_decided = False
        self._explain(self.query_one("#routing-models", LiveTable).chosen)

    def action_put_away(self) -> None:
        if self._is_decided and not self.is_busy:
            self.action_put_off()
        else:
            super().action_put_away()
