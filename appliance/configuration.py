"""The records of /admin/v1/config: what can be set and what it is now, what a new text changes, the versions.

Plain data, shared by the server and its client. Values are as JSON has them; times are Unix seconds.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

SettingKind = Literal["text", "number", "integer", "switch", "choice", "list", "table"]


class SettingStatus(Struct, frozen=True, kw_only=True):
    """One setting. `value`: in force; a `table` is too large for a line, and its value is how many it has.
    `source`: where the value was written (`default` if nowhere). `is_fixed`: a variable or flag says it, so
    the file cannot change it. `needs_restart`: a running server keeps the old value.
    """

    key: str
    kind: SettingKind
    description: str
    value: Any
    default: Any
    source: str
    is_fixed: bool
    needs_restart: bool
    choices: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None


class SettingList(Struct, frozen=True, kw_only=True):
    """`can_change`: whether the API may change them here (`config_api`)."""

    data: tuple[SettingStatus, ...]
    can_change: bool


class SettingChange(Struct, frozen=True, kw_only=True):
    """None: not there, or as by default."""

    key: str
    before: Any
    after: Any
    needs_restart: bool


class ConfigVersion(Struct, frozen=True, kw_only=True):
    version: int
    time: int
    author: str
    changes: tuple[SettingChange, ...]


class ConfigVersionList(Struct, frozen=True, kw_only=True):
    data: tuple[ConfigVersion, ...]
    object: Literal["list"] = "list"


class ConfigStatus(Struct, frozen=True, kw_only=True):
    """`settings`: what is in force, by key; `pending`: what the file says and only a restart will bring;
    `error`: why the file as it is was not taken.
    """

    file: str
    version: int
    settings: dict[str, Any]
    pending: tuple[SettingChange, ...]
    error: str | None


class ConfigText(Struct, frozen=True, kw_only=True):
    """`toml`: hearth.toml as it is, empty where there is none."""

    file: str
    toml: str


class NewConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Either `toml`, the whole text of hearth.toml; or `set`, values by key that are put into the text as it
    is, where null takes a key out. Comments stay.
    """

    toml: Annotated[str, Meta(max_length=1_000_000)] | None = None
    set: Annotated[dict[Annotated[str, Meta(max_length=200)], Any], Meta(max_length=1000)] | None = None


class CheckedConfig(Struct, frozen=True, kw_only=True):
    """`toml`: the text that would be written."""

    changes: tuple[SettingChange, ...]
    toml: str


class TakenConfig(Struct, frozen=True, kw_only=True):
    version: int
    changes: tuple[SettingChange, ...]
    pending: tuple[SettingChange, ...]


class Rollback(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    version: Annotated[int, Meta(ge=1, le=10**9)]
