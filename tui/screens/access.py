"""Who may do what: the keys of the server, what each allows, making, changing, replacing and ending them."""

from __future__ import annotations

from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.widgets import DataTable, Static

from appliance.admin import IssuedKey, KeyChange, KeyStatus, NewKey
from tui import clock, grants
from tui.dialogs.form import Field, Form, filled
from tui.dialogs.secret import Secret
from tui.language import say
from tui.screens.base import BREAKPOINTS, HearthScreen, flow
from tui.widgets.panel import Panel
from tui.widgets.table import LiveTable

COLUMNS = ("name", "role", "state", "used", "expires", "prefix")
OVERLAPS = (("0", "now"), ("3600", "hour"), ("86400", "day"), ("604800", "week"))


class Access(HearthScreen):
    NAME = "access"
    FEEDS = ("keys", "whoami")
    AUTO_FOCUS = "#access-keys"
    HORIZONTAL_BREAKPOINTS = BREAKPOINTS
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "create", "access.create"),
        Binding("e", "change", "access.change"),
        Binding("r", "rotate", "access.rotate"),
        Binding("x,delete", "revoke", "access.revoke"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._keys: dict[str, KeyStatus] = {}
        self._own = ""

    def body(self) -> ComposeResult:
        with Container(id="access"):
            with Panel(say("access.keys"), id="access-list"):
                yield LiveTable([say(f"access.{name}") for name in COLUMNS], id="access-keys")
                yield Static(say("access.no_keys"), id="access-none", classes="muted")
            with Panel(say("access.allows"), id="access-detail"):
                yield Static(id="access-grant")

    def fed(self, feed: str, value: Any) -> None:
        if feed == "whoami":
            self._own = value.credential
            who = say("access.you_local") if not value.credential else value.name
            self.query_one("#access-list").border_subtitle = say(
                "access.you", who=who, role=say(f"roles.{value.grant.role}")
            )
        else:
            self._show(value)

    def _show(self, keys: tuple[KeyStatus, ...]) -> None:
        now = clock.now()
        self._keys = {key.id: key for key in keys}
        table = self.query_one("#access-keys", LiveTable)
        table.show({key.id: grants.row(key, now) for key in keys})
        table.display = bool(keys)
        self.query_one("#access-none").display = not keys
        self._describe(table.chosen)

    @on(DataTable.RowHighlighted, "#access-keys")
    def _follow_cursor(self, event: DataTable.RowHighlighted) -> None:
        self._describe(event.row_key.value)

    def _describe(self, id: str | None) -> None:
        key, panel = self._keys.get(id or ""), self.query_one("#access-detail")
        panel.display = key is not None
        if key is not None:
            panel.border_title = say("access.allows_of", key=key.name)
            self.query_one("#access-grant", Static).update(grants.described(key))

    @property
    def _chosen(self) -> KeyStatus | None:
        return self._keys.get(self.query_one("#access-keys", LiveTable).chosen or "")

    # What is done to keys

    @flow
    async def action_create(self) -> None:
        is_first = not any(key.state == "active" for key in self._keys.values())

        async def create(values: dict[str, str]) -> IssuedKey:
            new = NewKey(
                name=values["name"],
                grant=grants.grant_of(values),
                expires_at=grants.expiry(values["expires"], clock.now()),
            )
            with self.hearth.feeds.held():  # the first key's making and its use are one step
                issued = await self.call(lambda client: client.create_key(new), say("access.creating"))
                if not self._own:
                    self.hearth.use_key(issued.secret)
            return issued

        issued = await filled(
            self.app,
            say("access.create_title"),
            grants.fields(least="admin" if is_first else "user"),
            create,
            text=say("access.first_text") if is_first else "",
            do=say("access.create_do"),
            check=grants.check,
        )
        if issued is not None:
            await self._hand_over(issued, takes_it=False)

    @flow
    async def action_change(self) -> None:
        key = self._chosen
        if key is None or key.state == "revoked":
            return

        async def change(values: dict[str, str]) -> KeyStatus:
            asked = KeyChange(
                name=values["name"],
                grant=grants.grant_of(values, key.grant),
                expires_at=grants.expiry(values["expires"], clock.now()),
            )
            return await self.call(lambda client: client.change_key(key.id, asked), say("access.changing"))

        title = say("access.change_title", key=key.name)
        if await filled(
            self.app, title, grants.fields(key), change, do=say("access.change_do"), check=grants.check
        ):
            self.notify(say("access.changed", key=key.name))
            self.hearth.feeds.refresh("keys")

    @flow
    async def action_rotate(self) -> None:
        key = self._chosen
        if key is None or key.state == "revoked":
            return
        choices = tuple((seconds, say(f"access.overlap_{name}")) for seconds, name in OVERLAPS)
        form = Form(
            say("access.rotate_title", key=key.name),
            [Field("overlap", say("access.overlap"), "0", choices=choices)],
            text=say("access.rotate_text"),
            do=say("access.rotate_do"),
        )
        values = await self.app.push_screen_wait(form)
        if values:
            overlap = float(values["overlap"])
            issued = await self.call(
                lambda client: client.rotate_key(key.id, overlap=overlap), say("access.rotating")
            )
            await self._hand_over(issued, takes_it=key.id == self._own)

    @flow
    async def action_revoke(self) -> None:
        key = self._chosen
        if key is None or key.state == "revoked":
            return
        lost = say("access.revoke_own" if key.id == self._own else "access.revoke_lost")
        question = say("access.revoke_question", key=key.name)
        if await self.confirm(question, lost, say("access.revoke_do")):
            await self.call(lambda client: client.revoke_key(key.id), say("access.revoking"))
            self.notify(say("access.revoked", key=key.name))
            self.hearth.feeds.refresh("keys", "whoami")

    async def _hand_over(self, issued: IssuedKey, *, takes_it: bool) -> None:
        """Show the secret; from now on this window may need it itself."""
        if takes_it:
            self.hearth.use_key(issued.secret)
        self.hearth.feeds.refresh("keys", "whoami")
        await self.app.push_screen_wait(Secret(issued.key.name, issued.secret))
