"""Settings as rows, forms and words; what an operator wrote becomes a value. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from textual.content import Content

from appliance.configuration import ConfigVersion, SettingChange, SettingStatus
from appliance.errors import InvalidValue
from tui import format
from tui.dialogs.form import Field
from tui.language import has, say
from tui.widgets.table import Cell

ON, OFF = "true", "false"
VALUE_CELLS = 20
BEFORE, AFTER = "$text-error", "$text-success"
UNSET = object()  # a change that takes the setting out of the file


def fitting(settings: Sequence[SettingStatus], words: str) -> list[SettingStatus]:
    """Those whose key or description has all the words."""
    wanted = words.lower().split()
    return [
        setting
        for setting in settings
        if all(word in f"{setting.key} {setting.description}".lower() for word in wanted)
    ]


def row(setting: SettingStatus, staged: Mapping[str, Any]) -> tuple[Cell, ...]:
    """`staged`: changes that are not applied yet."""
    is_other = setting.value != setting.default
    if setting.key in staged:
        value = Content.assemble(
            ("● ", "$warning"), (shown(_wanted(setting, staged[setting.key]), setting), "bold $text-warning")
        )
    else:
        value = Content.styled(
            format.shorten(shown(setting.value, setting), VALUE_CELLS), "bold" if is_other else ""
        )
    restart = say("settings.restart") if setting.needs_restart else say("settings.live")
    return (
        setting.key,
        value,
        _source(setting),
        Content.styled(restart, "$foreground-muted"),
    )


def described(setting: SettingStatus) -> Content:
    """What it is for and what may be written."""
    facts = [say("settings.default_is", value=shown(setting.default, setting)), _takes(setting)]
    facts.append(say("settings.after_restart" if setting.needs_restart else "settings.at_once"))
    if setting.is_fixed:
        facts.append(say("settings.fixed_by", source=setting.source))
    return Content("\n").join(
        [Content(setting.description), Content.styled(" · ".join(filter(None, facts)), "$foreground-muted")]
    )


def field_of(setting: SettingStatus, value: Any) -> Field:
    """A line to write the setting in."""
    text = shown(value, setting, is_editing=True)
    choices: tuple[tuple[str, str], ...] = ()
    if setting.kind == "switch":
        choices = ((ON, say("settings.on")), (OFF, say("settings.off")))
    elif setting.kind == "choice":
        choices = tuple((choice, choice) for choice in setting.choices)
    return Field("value", setting.key, text, _takes(setting), choices)


def value_of(setting: SettingStatus, text: str) -> Any:
    """What `text` means for the setting. Raises InvalidValue; bounds are the server's to check as well."""
    match setting.kind:
        case "switch":
            return text == ON
        case "integer" | "number":
            return _number(setting, text)
        case "list":
            return [word.strip() for word in text.split(",") if word.strip()]
        case _:
            return text


def shown(value: Any, setting: SettingStatus, *, is_editing: bool = False) -> str:
    if is_editing and setting.kind == "switch":
        return ON if value else OFF
    if setting.kind == "switch":
        return say("settings.on" if value else "settings.off")
    if setting.kind == "table":
        return say("settings.entries", count=value) if value else "–"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or ("" if is_editing else "–")
    if isinstance(value, float) and value.is_integer():
        return f"{value:.0f}"
    return str(value) if value != "" or is_editing else "–"


def changes_text(changes: Sequence[SettingChange]) -> Content:
    """What a text changes, one setting a paragraph."""
    if not changes:
        return Content.styled(say("settings.no_change"), "$foreground-muted")
    lines = []
    for change in changes:
        restart = f"  {say('settings.after_restart')}" if change.needs_restart else ""
        lines += [
            Content.assemble((change.key, "bold"), (restart, "$text-warning")),
            Content.assemble(("  − ", BEFORE), (_told(change.before), BEFORE)),
            Content.assemble(("  + ", AFTER), (_told(change.after), AFTER)),
        ]
    return Content("\n").join(lines)


def version_row(version: ConfigVersion) -> tuple[Cell, ...]:
    keys = ", ".join(change.key for change in version.changes)
    when = datetime.fromtimestamp(version.time).strftime("%Y-%m-%d %H:%M")
    return str(version.version), when, version.author, format.shorten(keys, 60) or say("settings.no_change")


def staged_values(staged: Mapping[str, Any]) -> dict[str, Any]:
    """As the API takes them: null takes a key out of the file."""
    return {key: None if value is UNSET else value for key, value in staged.items()}


def _wanted(setting: SettingStatus, value: Any) -> Any:
    return setting.default if value is UNSET else value


def _told(value: Any) -> str:
    if value is None:
        return say("settings.not_set")
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "–"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _source(setting: SettingStatus) -> Content:
    known = f"settings.from_{setting.source}"
    text = say(known) if has(known) else setting.source
    return Content.styled(format.shorten(text, 24), "" if setting.source == "file" else "$foreground-muted")


def _takes(setting: SettingStatus) -> str:
    match setting.kind:
        case "integer" | "number":
            least, most = (_plain(bound) for bound in (setting.least, setting.most))
            return say(f"settings.takes_{setting.kind}", least=least, most=most)
        case "choice":
            return ", ".join(setting.choices)
        case "list":
            return say("settings.takes_list")
        case "table":
            return say("settings.takes_table")
        case _:
            return ""


def _plain(bound: float | None) -> str:
    if bound is None:
        return "…"
    return f"{bound:,.0f}" if float(bound).is_integer() else f"{bound:g}"


def _number(setting: SettingStatus, text: str) -> int | float:
    plain = text.replace(",", "").replace("_", "").strip()
    try:
        value: int | float = int(plain) if setting.kind == "integer" else float(plain)
    except ValueError:
        raise InvalidValue(
            say("settings.no_number", text=text, takes=_takes(setting)), param="value"
        ) from None
    above = setting.most is not None and value > setting.most
    if above or (setting.least is not None and value < setting.least):
        raise InvalidValue(say("settings.out_of_range", text=text, takes=_takes(setting)), param="value")
    return value
