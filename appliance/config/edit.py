"""Single settings changed in the text of hearth.toml; its comments and its order stay. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from appliance.errors import ConfigError


def edited(text: str, values: Mapping[str, Any]) -> str:
    """`text` with each dotted key of `values` set, or taken out where its value is None.

    Raises ConfigError for a text that is no TOML, or where a section's name is taken by a value.
    """
    try:
        document = tomlkit.parse(text)
        for key, value in values.items():
            _set(document, key, value)
        return tomlkit.dumps(document)
    except TOMLKitError as error:
        raise ConfigError(f"the settings file is not valid TOML: {error}") from error


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
