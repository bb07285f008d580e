"""What differs between two settings, leaf by leaf, and which of it a running server can take.

Lists of tables are compared by the name of each table where it has one, by its place otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from functools import reduce
from typing import Any

import msgspec
from msgspec import Struct

from appliance.config.layers import settings_list
from appliance.config.schema import Settings

# Everything else is read once, at the start.
LIVE = (
    "routing.*",
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
    """None: not there. `needs_restart`: a running server keeps the old value."""

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


def _leaves(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Struct):
        for name in value.__struct_fields__:
            yield from _leaves(f"{key}.{name}" if key else name, getattr(value, name))
    elif isinstance(value, Sequence) and any(isinstance(each, Struct) for each in value):
        for place, each in enumerate(value):
            yield from _leaves(f"{key}.{getattr(each, 'name', place)}", each)
    elif isinstance(value, dict):
        for name, each in value.items():
            yield f"{key}.{name}", list(each) if isinstance(each, tuple) else each
    elif isinstance(value, tuple):
        yield key, list(value)
    else:
        yield key, value


def _shown(value: Any) -> str:
    return "nothing" if value is None else msgspec.json.encode(value).decode()
