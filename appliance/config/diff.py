"""What differs between two settings, leaf by leaf, and which of it a running server can take.

Lists of tables are compared by the name of each table where it has one, by its place otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import reduce
from typing import Any

import msgspec
from msgspec import Struct

from appliance.config.layers import settings_list, tables_of
from appliance.config.schema import Settings

# Everything else is read once, at the start.
LIVE = (
    "routing.*",
    "privacy.*",
    "access.*",
    "generator.temperature",
    "generator.top_p",
    "generator.top_k",
    "generator.min_p",
    "knowledge.min_relevance",
    "limits.body_bytes",
    "limits.json_depth",
    "limits.drain",
    "log_level",
)
MODE = "routing.mode"  # a server may become offline at once, and hybrid only by a restart


class Change(Struct, frozen=True, kw_only=True):
    """None: not there, or as by default. `needs_restart`: a running server keeps the old value."""

    key: str
    before: Any
    after: Any
    needs_restart: bool

    def __str__(self) -> str:
        restart = "  (needs a restart)" if self.needs_restart else ""
        return f"{self.key}: {_shown(self.before)} → {_shown(self.after)}{restart}"


def differences(before: Settings, after: Settings) -> tuple[Change, ...]:
    old, new = dict(_leaves("", before)), dict(_leaves("", after))
    keys = [*old, *(key for key in new if key not in old)]
    return tuple(
        Change(
            key=key,
            before=old.get(key),
            after=new.get(key),
            needs_restart=not is_live(key) and (key, new.get(key)) != (MODE, "offline"),
        )
        for key in keys
        if old.get(key) != new.get(key)
    )


def leaves_of(settings: Settings) -> dict[str, Any]:
    """Every setting by its key, tables within lists by their names."""
    return dict(_leaves("", settings))


def is_live(key: str) -> bool:
    return any(fnmatchcase(key, pattern) for pattern in LIVE) and key != MODE


def in_force(running: Settings, wanted: Settings) -> Settings:
    """What a running server makes of `wanted`: its live settings, and all others as they run."""
    tree: dict[str, Any] = {}
    for setting in settings_list():
        *sections, name = setting.key.split(".")
        source = wanted if is_live(setting.key) else running
        place = tree
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = reduce(getattr, setting.key.split("."), source)
    if wanted.routing.mode == "offline":
        tree["routing"]["mode"] = "offline"
    return msgspec.convert(tree, Settings)


_TABLES = frozenset(setting.key for setting in settings_list() if any(tables_of(setting)))


def _leaves(key: str, value: Any, *, in_table: bool = False) -> Iterator[tuple[str, Any]]:
    """Of a table within a list only what is not as by default: what nobody wrote is no difference."""
    if isinstance(value, Struct):
        for item in msgspec.structs.fields(value):
            inner = getattr(value, item.name)
            if not in_table or inner != item.default:
                name = f"{key}.{item.encode_name}" if key else item.encode_name
                yield from _leaves(name, inner, in_table=in_table)
    elif isinstance(value, tuple) and (key in _TABLES or any(isinstance(each, Struct) for each in value)):
        for place, each in enumerate(value):
            yield from _leaves(f"{key}.{getattr(each, 'name', place)}", each, in_table=True)
    elif isinstance(value, dict):
        for name, each in value.items():
            yield f"{key}.{name}", list(each) if isinstance(each, tuple) else each
    else:
        yield key, list(value) if isinstance(value, tuple) else value


def _shown(value: Any) -> str:
    return "not set" if value is None else msgspec.json.encode(value).decode()
