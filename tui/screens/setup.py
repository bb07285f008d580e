"""The first time: which models are here and whether they load, where programs reach them, the admin's key.

Offered by itself to a server that has no key yet, until it was finished or skipped; in the palette always.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.widgets import Button, ContentSwitcher, Static

from appliance.admin import IssuedKey, KeyStatus, ModelStatusList, NewKey
from appliance.client import RemoteError
from appliance.configuration import NewConfig
from appliance.principal import Grant
from tui import setting_up
from tui.dialogs.form import Field, filled
from tui.dialogs.secret import Secret
from tui.language import say
from tui.screens.base import flow
from tui.screens.models_work import ModelsWork
from tui.widgets.panel import Panel
from tui.widgets.table import LiveTable

STEPS = ("models", "address", "key", "ready")
COLUMNS = ("model", "does", "memory", "verdict")
# what can be done → the step where it can
ACTIONS = {
    "try_all": "models",
    "import_model": "models",
    "fetch": "models",
    "change_port": "address",
    "make_key": "key",
}
ADMIN = "admin"


class Setup(ModelsWork):
    NAME = "setup"
    FEEDS = ("models", "settings", "config", "keys", "whoami")
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("t", "try_all", "setup.try_all"),
        Binding("i", "import_model", "models.import"),
        Binding("f", "fetch", "models.fetch"),
        Binding("p", "change_port", "setup.change_port"),
        Binding("k", "make_key", "setup.make_key"),
        Binding("n,right", "next", "setup.next"),
        Binding("b,left", "back", "setup.back"),
        Binding("s", "skip", "setup.skip"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._step = 0
        self._told: dict[str, Any] = {}
        self._file: Path | None = None

    def body(self) -> ComposeResult:
        yield Static(id="setup-steps")
        with ContentSwitcher(initial=f"setup-{STEPS[self._step]}", id="setup"):
            with Panel(say("setup.models"), id="setup-models"):
                yield Static(say("setup.models_text"), classes="setup-text")
                yield LiveTable([say(f"setup.{name}") for name in COLUMNS], id="setup-model-table")
                yield Static(id="setup-summary", classes="setup-text")
            for step in STEPS[1:]:
                with Panel(say(f"setup.{step}"), id=f"setup-{step}"), VerticalScroll(can_focus=False):
                    yield Static(say(f"setup.{step}_text"), classes="setup-text")
                    yield Static(id=f"setup-{step}-about", markup=False)
        with Horizontal(id="setup-buttons"):
            yield Button(say("setup.skip"), id="skip", compact=True)
            yield Button(say("setup.back"), id="back", compact=True)
            yield Button("", id="do", compact=True)
            yield Button(say("setup.next"), id="next", variant="primary", compact=True)

    def composed(self) -> None:
        self._go(self._step)

    # Where one is

    def _go(self, step: int) -> None:
        self._step = step
        name, is_last = STEPS[step], step == len(STEPS) - 1
        self.query_one("#setup", ContentSwitcher).current = f"setup-{name}"
        self.query_one("#setup-steps", Static).update(_steps(step))
        self.query_one("#skip").display = not is_last
        self.query_one("#back").display = step > 0
        self.query_one("#next", Button).label = say("setup.finish" if is_last else "setup.next")
        self._show()
        self.refresh_bindings()
        self.query_one("#do" if name == "key" and self._wants_key else "#next").focus()

    def action_next(self) -> None:
        if self._step == len(STEPS) - 1:
            self._leave()
        else:
            self._go(self._step + 1)

    def action_back(self) -> None:
        self._go(max(0, self._step - 1))

    def action_skip(self) -> None:
        self.notify(say("setup.skipped"))
        self._leave()

    def _leave(self) -> None:
        self._go(0)
        self.hearth.set_up()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys of the step that is on the screen, and no others."""
        if action in ACTIONS:
            return ACTIONS[action] == STEPS[self._step] and self._can(action)
        if action == "back":
            return self._step > 0
        return action != "skip" or self._step < len(STEPS) - 1

    def _can(self, action: str) -> bool:
        if action == "make_key":
            return self._wants_key
        if action == "change_port":
            address = self._address
            return address is not None and address.can_change and not address.port.is_fixed
        return action != "try_all" or bool(setting_up.untried(self._models))

    @on(Button.Pressed)
    def _press(self, event: Button.Pressed) -> None:
        actions = {"skip": self.action_skip, "back": self.action_back, "next": self.action_next}
        if event.button.id == "do":
            self.run_worker(self.run_action(self._button_action))
        else:
            actions[event.button.id or ""]()

    # What is known

    @property
    def _models(self) -> ModelStatusList:
        found: ModelStatusList = self._told.get(
            "models", ModelStatusList(data=(), memory=0, memory_resident=0)
        )
        return found

    @property
    def _keys(self) -> tuple[KeyStatus, ...]:
        return tuple(self._told.get("keys", ()))

    @property
    def _wants_key(self) -> bool:
        return "keys" in self._told and not any(key.state == "active" for key in self._keys)

    @property
    def _address(self) -> setting_up.Address | None:
        if "settings" not in self._told or "config" not in self._told:
            return None
        return setting_up.address_of(self._told["settings"], self._told["config"])

    @property
    def _button_action(self) -> str:
        """The one thing that this step's own button does; empty for none."""
        offered = [action for action, step in ACTIONS.items() if step == STEPS[self._step]]
        return next((action for action in offered if self._can(action)), "")

    def fed(self, feed: str, value: Any) -> None:
        self._told[feed] = value
        self._show()
        self.refresh_bindings()

    def _show(self) -> None:
        if "models" in self._told:
            self.query_one("#setup-model-table", LiveTable).show(setting_up.model_rows(self._models))
            self.query_one("#setup-model-table").display = bool(self._models.data)
            self.query_one("#setup-summary", Static).update(setting_up.summary(self._models))
        url = self.hearth.backend.url
        about = setting_up.address_text(url, self._address)
        self.query_one("#setup-address-about", Static).update(about)
        if "keys" in self._told and "whoami" in self._told:
            own = self._told["whoami"].credential
            text = setting_up.key_text(self._keys, own, str(self._file or ""))
            self.query_one("#setup-key-about", Static).update(text)
        self.query_one("#setup-ready-about", Static).update(say("setup.ready_next"))
        button, action = self.query_one("#do", Button), self._button_action
        button.display = bool(action)
        if action:
            button.label = say("models.import" if action == "import_model" else f"setup.{action}")
            button.refresh(layout=True)  # it is as wide as its words

    # What is done

    @flow
    async def action_try_all(self) -> None:
        """Each model that is not in memory is loaded once."""
        failed: RemoteError | None = None
        for name in setting_up.untried(self._models):
            try:
                await self.load(name)
            except RemoteError as error:
                failed = error
        if failed is not None:
            raise failed
        self.notify(say("setup.tried"))

    @flow
    async def action_import_model(self) -> None:
        await self.bring_in()

    @flow
    async def action_fetch(self) -> None:
        await self.fetch()

    @flow
    async def action_change_port(self) -> None:
        if self._address is None:
            return

        async def change(values: dict[str, str]) -> int:
            new = NewConfig(set={"port": setting_up.port_of(values)})
            await self.call(lambda client: client.take_config(new), say("settings.applying"))
            return setting_up.port_of(values)

        field = Field("port", say("setup.port"), str(self._address.port.value))
        title, text = say("setup.change_port"), say("setup.port_text")
        port = await filled(self.app, title, [field], change, text=text, check=setting_up.port_of)
        if port is not None:
            self.notify(say("setup.port_changed", port=port))
            self.hearth.feeds.refresh("settings", "config")

    @flow
    async def action_make_key(self) -> None:
        async def create(values: dict[str, str]) -> IssuedKey:
            new = NewKey(name=values["name"], grant=Grant(role="admin"))
            with self.hearth.feeds.held():  # the first key's making and its use are one step
                issued = await self.call(lambda client: client.create_key(new), say("access.creating"))
                self.hearth.use_key(issued.secret)
            return issued

        field = Field("name", say("access.name"), ADMIN, say("access.name_hint"))
        title, text = say("setup.make_key"), say("access.first_text")
        issued = await filled(self.app, title, [field], create, text=text, do=say("access.create_do"))
        if issued is not None:
            self._file = await self.app.push_screen_wait(Secret(issued.key.name, issued.secret))
            self.hearth.feeds.refresh("keys", "whoami")
            self._go(STEPS.index("ready"))


def _steps(current: int) -> Content:
    """All steps, the current one marked, those behind it ticked."""
    line = Content(" ")
    for number, step in enumerate(STEPS):
        mark = "✓" if number < current else str(number + 1)
        style = "bold $primary" if number == current else "$foreground-muted"
        line += Content.styled(f" {mark} {say(f'setup.step_{step}')} ", style)
        if number + 1 < len(STEPS):
            line += Content.styled("─", "$foreground-muted")
    return line
