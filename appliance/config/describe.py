"""What may be written for a setting: its kind, choices and bounds, read from the schema. Pure."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from functools import reduce
from typing import Any, Literal

import msgspec

from appliance.config.diff import is_live
from appliance.config.layers import Setting, settings_list, tables_of
from appliance.config.schema import Settings
from appliance.configuration import SettingKind, SettingStatus

KINDS: dict[Any, SettingKind] = {str: "text", int: "integer", float: "number", bool: "switch"}


def described(
    settings: Settings, fixed: Mapping[str, str], in_file: Mapping[str, Any]
) -> tuple[SettingStatus, ...]:
    """Every setting. `fixed`: where those are written that no file can change; `in_file`: what the file says,
    as nested tables.
    """
    return tuple(_status(setting, settings, fixed, in_file) for setting in settings_list())


def _status(
    setting: Setting, settings: Settings, fixed: Mapping[str, str], in_file: Mapping[str, Any]
) -> SettingStatus:
    kind, metas = setting.kind, list[msgspec.Meta]()
    while hasattr(kind, "__metadata__"):
        metas += [meta for meta in kind.__metadata__ if isinstance(meta, msgspec.Meta)]
        kind = kind.__origin__
    origin = typing.get_origin(kind)
    value: Any = reduce(getattr, setting.key.split("."), settings)
    default: Any = setting.default
    found: SettingKind = "text"
    if origin is Literal:
        found = "choice"
    elif origin is dict or any(tables_of(setting)):
        found, value, default = "table", len(value), len(default)
    elif origin is tuple:
        found, value, default = "list", list(value), list(default)
    else:
        found = KINDS[kind]
    source = "file" if _is_in(in_file, setting.key) else "default"
    return SettingStatus(
        key=setting.key,
        kind=found,
        description=setting.description,
        value=value,
        default=default,
        source=fixed.get(setting.key, source),
        is_fixed=setting.key in fixed,
        needs_restart=not is_live(setting.key),
        choices=typing.get_args(kind) if origin is Literal else (),
        least=_bound(metas, "ge", "gt"),
        most=_bound(metas, "le", "lt"),
    )


def _bound(metas: list[msgspec.Meta], *names: str) -> float | None:
    return next((getattr(m, name) for m in metas for name in names if getattr(m, name) is not None), None)


def _is_in(tree: Mapping[str, Any], key: str) -> bool:
    for part in key.split("."):
        if not isinstance(tree, Mapping) or part not in tree:
            return False
        tree = tree[part]
    return True
