"""Single settings changed in the text of hearth.toml; its comments and its order stay. Pure."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from appliance.errors import ConfigError


def edited(text: str, values: Mapping[str, Any]) -> str:
    """`text` with each dotted key of `values` set, or taken out where its value is None.

    Raises ConfigError for a text that is no TOML, where a section's name is taken by a value, and where the
    change would not come out right, as for some texts with dotted keys.
    """
    try:
        document = tomlkit.parse(text)
        # Values before tables: what follows a new table would be taken for a part of it.
        for key, value in sorted(values.items(), key=lambda item: item[0].count(".")):
            _set(document, key, value)
        after = tomlkit.dumps(document)
        found = tomllib.loads(after)
    except (TOMLKitError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"the settings file is not valid TOML: {error}") from error
    if _pruned(found) != _pruned(_with(tomllib.loads(text), values)):
        raise ConfigError(
            f"{', '.join(values)} cannot be set in the file as it is written; edit it as a text"
        )
    return after


def _set(document: tomlkit.TOMLDocument, key: str, value: Any) -> None:
    *sections, name = key.split(".")
    table: Any = document
    for section in sections:
        if section not in table:
            if value is None:
                return
            table[section] = tomlkit.table()
        table = table[section]
        if not isinstance(table, Mapping):
            raise ConfigError(f"{key} cannot be set: {section} has a value of its own")
    if value is None:
        table.pop(name, None)
    else:
        table[name] = value


def _with(tree: dict[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The same change to plain tables."""
    for key, value in values.items():
        *sections, name = key.split(".")
        table = tree
        for section in sections:
            table = table.setdefault(section, {})
        if value is None:
            table.pop(name, None)
        else:
            table[name] = value
    return tree


def _pruned(tree: Any) -> Any:
    """Without empty tables, which say nothing."""
    if not isinstance(tree, dict):
        return tree
    inner = {key: _pruned(value) for key, value in tree.items()}
    return {key: value for key, value in inner.items() if value != {}}
