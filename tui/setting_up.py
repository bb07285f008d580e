"""The setup in rows and words: what models are for, whether they load, where the server is reached. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from rich.cells import cell_len
from textual.content import Content

from appliance.admin import KeyStatus, ModelStatus, ModelStatusList
from appliance.configuration import ConfigStatus, SettingList, SettingStatus
from appliance.errors import InvalidValue
from tui import format
from tui.language import say
from tui.widgets.table import Cell

LOOPBACK = ("127.", "localhost", "::1")
HIGHEST_PORT = 65_535
REASON_CELLS = 34


def model_rows(models: ModelStatusList) -> dict[str, tuple[Cell, ...]]:
    return {
        model.name: (
            model.name,
            say(f"setup.does_{model.role}"),
            format.size(model.bytes_estimated) if model.bytes_estimated else "–",
            verdict(model, models.memory),
        )
        for model in models.data
    }


def verdict(model: ModelStatus, memory: int) -> Content:
    """Whether it loads, as far as anybody knows."""
    if model.error:
        return Content.styled(format.shorten(f"✗ {model.error}", REASON_CELLS), "$text-error")
    if model.state == "ready":
        return Content.styled(f"✓ {say('setup.loads')}", "$text-success")
    if model.bytes_estimated > memory:
        return Content.styled(f"✗ {say('setup.too_large')}", "$text-error")
    if model.state == "unloaded":
        return Content.styled(f"○ {say('setup.should_load')}", "$foreground-muted")
    return Content.styled(say(f"state.{model.state}", share=format.percent(model.progress)), "$text-warning")


def summary(models: ModelStatusList) -> Content:
    """What the models that are there come to."""
    if not models.data:
        return Content.styled(say("setup.no_models"), "$text-warning")
    roles = {model.role for model in models.data}
    if "chat" not in roles:
        return Content.styled(say("setup.no_chat_model"), "$text-warning")
    if "embed" not in roles:
        return Content.styled(say("setup.no_embedder"), "$text-warning")
    return Content(say("setup.all_there"))


def untried(models: ModelStatusList) -> list[str]:
    """Models that could be loaded to see that they can."""
    return [
        model.name
        for model in models.data
        if model.state in ("unloaded", "failed") and model.bytes_estimated <= models.memory
    ]


class Address(NamedTuple):
    """Where the server listens, by its settings. `file`: the one that says so, or could; `next_port`: after
    its next start, if it is another one then.
    """

    host: SettingStatus
    port: SettingStatus
    can_change: bool
    file: str
    next_port: int | None

    @property
    def is_for_here_only(self) -> bool:
        return str(self.host.value).startswith(LOOPBACK)


def address_of(settings: SettingList, config: ConfigStatus) -> Address:
    by_key = {setting.key: setting for setting in settings.data}
    later = next((change.after for change in config.pending if change.key == "port"), None)
    return Address(by_key["host"], by_key["port"], settings.can_change, config.file, later)


def address_text(url: str, address: Address | None) -> Content:
    """How programs reach the server, who can, and how to have it otherwise."""
    rows = [("setup.openai", f"{url}/v1"), ("setup.environment", f"OPENAI_BASE_URL={url}/v1")]
    if address is None:
        return _lines(rows)
    who = "setup.here_only" if address.is_for_here_only else "setup.others_too"
    rows += [("setup.who", say(who, host=address.host.value)), ("setup.port", _port(address))]
    if address.port.is_fixed:
        change = say("setup.port_fixed", source=address.port.source)
    elif address.can_change:
        change = say("setup.port_key")
    else:
        change = say("setup.port_file", file=address.file)
    hints = [change, say("setup.others_how" if address.is_for_here_only else "setup.others_tls")]
    return Content("\n").join(
        [_lines(rows), Content(), *(Content.styled(h, "$foreground-muted") for h in hints)]
    )


def _port(address: Address) -> str:
    if address.next_port is None:
        return str(address.port.value)
    return say("setup.port_later", port=address.port.value, later=address.next_port)


def port_of(values: Mapping[str, str]) -> int:
    """Raises InvalidValue."""
    text = values["port"]
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= HIGHEST_PORT:
        raise InvalidValue(say("setup.wrong_port", text=text, most=HIGHEST_PORT), param="port")
    return int(text)


def key_text(keys: Sequence[KeyStatus], own: str, file: str) -> Content:
    """Who comes in, and what to do about it. `own`: the key this window uses; `file`: where it was saved."""
    active = [key for key in keys if key.state == "active"]
    if not active:
        return Content("\n").join(
            [Content(say("setup.no_key")), Content(), Content(say("setup.no_key_advice"))]
        )
    lines = [Content.styled(f"✓ {say('setup.has_keys', count=len(active))}", "$text-success")]
    lines += [Content(say("setup.own_key", key=key.name)) for key in active if key.id == own]
    if file:
        lines.append(Content(say("setup.key_file", file=file)))
    return Content("\n").join([*lines, Content(), Content.styled(say("setup.key_use"), "$foreground-muted")])


def _lines(rows: Sequence[tuple[str, str]]) -> Content:
    width = 2 + max(cell_len(say(key)) for key, _ in rows)
    return Content("\n").join(
        Content.assemble((format.fit(say(key), width), "$foreground-muted"), value) for key, value in rows
    )
