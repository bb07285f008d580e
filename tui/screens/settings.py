"""The server's settings: found, explained, changed in one step, and taken back."""

from __future__ import annotations

from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import DataTable, Input, Static

from appliance.configuration import ConfigStatus, NewConfig, SettingList, SettingStatus, TakenConfig
from appliance.errors import HearthError
from tui import configured
from tui.dialogs.changes import Changes
from tui.dialogs.editor import Editor
from tui.dialogs.form import Form
from tui.dialogs.versions import Versions
from tui.language import say
from tui.screens.base import HearthScreen, flow
from tui.widgets.panel import Panel
from tui.widgets.table import LiveTable


class Settings(HearthScreen):
    NAME = "settings"
    FEEDS = ("settings", "config")
    AUTO_FOCUS = "#settings-table"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "find", "settings.find", key_display="/"),
        Binding("e", "edit", "settings.edit"),
        Binding("d", "default", "settings.to_default", show=False),
        Binding("u", "undo", "settings.undo"),
        Binding("a", "apply", "settings.apply"),
        Binding("h", "history", "settings.history"),
        Binding("t", "text", "settings.text"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._settings: dict[str, SettingStatus] = {}
        self._staged: dict[str, Any] = {}

    def body(self) -> ComposeResult:
        with Vertical(id="settings"):
            yield Static(id="settings-news")
            with Panel(say("settings.title"), id="settings-list"):
                yield Input(placeholder=say("settings.find_hint"), id="settings-words", compact=True)
                yield LiveTable(
                    [say(f"settings.{name}") for name in ("setting", "value", "from", "takes_effect")],
                    id="settings-table",
                )
            with Panel("", id="settings-detail"):
                yield Static(id="settings-about")

    def fed(self, feed: str, value: Any) -> None:
        if feed == "settings":
            self._show(value)
        else:
            self._show_news(value)

    def _show(self, settings: SettingList) -> None:
        self._settings = {setting.key: setting for setting in settings.data}
        panel = self.query_one("#settings-list")
        panel.border_subtitle = "" if settings.can_change else say("settings.read_only")
        self._fill()

    def _show_news(self, config: ConfigStatus) -> None:
        """What of the file is not in force, and why."""
        news = self.query_one("#settings-news", Static)
        pending = ", ".join(change.key for change in config.pending)
        if config.error:
            news.update(say("settings.file_wrong", error=config.error))
        elif pending:
            news.update(say("settings.pending", keys=pending))
        news.display = bool(config.error or pending)
        news.set_class(bool(config.error), "-wrong")

    def _fill(self) -> None:
        words = self.query_one("#settings-words", Input).value
        found = configured.fitting(list(self._settings.values()), words)
        table = self.query_one("#settings-table", LiveTable)
        table.show({setting.key: configured.row(setting, self._staged) for setting in found})
        self._explain(table.chosen)
        title = say("settings.title")
        if self._staged:
            title = say("settings.title_staged", count=len(self._staged))
        self.query_one("#settings-list").border_title = title

    @on(Input.Changed, "#settings-words")
    def _narrow(self) -> None:
        self._fill()

    @on(Input.Submitted, "#settings-words")
    def _to_table(self) -> None:
        self.query_one("#settings-table").focus()

    @on(DataTable.RowHighlighted, "#settings-table")
    def _follow_cursor(self, event: DataTable.RowHighlighted) -> None:
        self._explain(event.row_key.value)

    def _explain(self, key: str | None) -> None:
        setting, panel = self._settings.get(key or ""), self.query_one("#settings-detail")
        panel.display = setting is not None
        if setting is not None:
            panel.border_title = setting.key
            self.query_one("#settings-about", Static).update(configured.described(setting))

    @property
    def _chosen(self) -> SettingStatus | None:
        return self._settings.get(self.query_one("#settings-table", LiveTable).chosen or "")

    def action_find(self) -> None:
        self.query_one("#settings-words").focus()

    # Changes are gathered, then taken in one step

    @on(DataTable.RowSelected, "#settings-table")
    def _select(self) -> None:
        self.action_edit()

    @flow
    async def action_edit(self) -> None:
        setting = self._chosen
        if setting is None:
            return
        if setting.is_fixed:
            wrong = say("settings.cannot_change", key=setting.key, source=setting.source)
            self.show_problem(wrong, say("settings.cannot_advice"))
            return
        if setting.kind == "table":
            await self._edit_text()
            return
        now = self._staged.get(setting.key, setting.value)
        form = Form(
            setting.key,
            [configured.field_of(setting, setting.default if now is configured.UNSET else now)],
            text=setting.description,
            do=say("settings.note"),
            check=lambda values: configured.value_of(setting, values["value"]),
        )
        values = await self.app.push_screen_wait(form)
        if values is not None:
            self._stage(setting, configured.value_of(setting, values["value"]))

    def action_default(self) -> None:
        if (setting := self._chosen) is not None and setting.source == "file":
            self._stage(setting, configured.UNSET)

    def action_undo(self) -> None:
        if (setting := self._chosen) is not None:
            self._staged.pop(setting.key, None)
            self._fill()

    def _stage(self, setting: SettingStatus, value: Any) -> None:
        self._staged.pop(setting.key, None)
        if value != setting.value:
            self._staged[setting.key] = value
        self._fill()

    @flow
    async def action_apply(self) -> None:
        """Shows what the gathered changes come to, then takes them."""
        if not self._staged:
            self.notify(say("settings.nothing_staged"))
            return
        if await self._propose(NewConfig(set=configured.staged_values(self._staged))):
            self._staged.clear()
            self._fill()

    @flow
    async def action_text(self) -> None:
        await self._edit_text()

    async def _edit_text(self) -> None:
        """The whole file, until the server takes it or the operator leaves."""
        told = await self.call(lambda client: client.config_text(), say("settings.asking"))
        text, wrong = told.toml, ""
        while True:
            edited = await self.app.push_screen_wait(Editor(told.file, text, wrong))
            if edited is None or edited == told.toml:
                return
            try:
                if await self._propose(NewConfig(toml=edited)):
                    return
                wrong = ""
            except HearthError as error:
                wrong = error.message
            text = edited

    async def _propose(self, new: NewConfig) -> bool:
        checked = await self.call(lambda client: client.check_config(new), say("settings.checking"))
        dialog = Changes(say("settings.apply_title"), checked.changes, do=say("settings.apply"))
        if await self.app.push_screen_wait(dialog) is not True:
            return False
        self._tell(await self.call(lambda client: client.take_config(new), say("settings.applying")))
        return True

    def _tell(self, taken: TakenConfig) -> None:
        text = say("settings.taken", version=taken.version, count=len(taken.changes))
        if any(change.needs_restart for change in taken.changes):
            text += f" {say('settings.some_wait')}"
        self.notify(text)
        self.hearth.feeds.refresh("settings", "config")

    @flow
    async def action_history(self) -> None:
        versions = await self.call(lambda client: client.config_versions(), say("settings.asking"))
        chosen = await self.app.push_screen_wait(Versions(versions))
        if chosen is None:
            return
        title = say("settings.back_title", version=chosen.version)
        dialog = Changes(title, chosen.changes, say("settings.back_text"), say("settings.back"))
        if await self.app.push_screen_wait(dialog):
            number = chosen.version
            self._tell(
                await self.call(lambda client: client.roll_back_config(number), say("settings.applying"))
            )
