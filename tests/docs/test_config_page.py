"""docs/CONFIG.md is made from the schema; this compares them, and `--write` is the way to make it anew."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec

from appliance.config.layers import settings_list, tables_of

PAGE = Path(__file__).parents[2] / "docs" / "CONFIG.md"
HEAD = """# Settings

A setting is taken from `$HEARTH_HOME/hearth.toml`, then from its environment variable, then from a flag
(`--set key=value`, or its own flag where it has one); the later wins. An unknown key is an error that names
the file and the key. `hearth config` shows what is in force. A list in a variable is separated by commas.

A table, or a list of tables, is written as TOML there: `{a = 1}`, `[{name = "a"}]`.

| setting | default | variable | what it is for |
|---|---|---|---|
"""
TABLE_HEAD = """
## [[{key}]]

{doc}

| key | default | what it is for |
|---|---|---|
"""


def page() -> str:
    rows = [
        f"| `{setting.key}` | {_shown(setting.default)} | `{setting.variable}` | {setting.description} |"
        for setting in settings_list()
    ]
    tables = [
        TABLE_HEAD.format(key=key, doc=(kind.__doc__ or "").strip())
        + "\n".join(
            f"| `{each.key}` | {_shown(each.default)} | {each.description} |" for each in settings_list(kind)
        )
        for setting in settings_list()
        for key, kind in tables_of(setting)
    ]
    return "\n".join([HEAD + "\n".join(rows), *tables]) + "\n"


def _shown(default: Any) -> str:
    if default is msgspec.NODEFAULT:
        return "must be given"
    if default in ((), "", {}):
        return "–"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def test_the_page_lists_every_setting_as_the_schema_has_it() -> None:
    assert PAGE.read_text("utf-8") == page(), f"run `python {Path(__file__).name} --write`"


def test_every_setting_says_what_it_is_for() -> None:
    assert [setting.key for setting in settings_list() if not setting.description] == []
    inner = [
        each for setting in settings_list() for _, kind in tables_of(setting) for each in settings_list(kind)
    ]
    assert [setting.key for setting in inner if not setting.description] == []


if __name__ == "__main__" and "--write" in sys.argv:
    PAGE.write_text(page(), "utf-8")
