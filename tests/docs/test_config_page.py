"""docs/CONFIG.md is made from the schema; this compares them, and `--write` is the way to make it anew."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from appliance.config.layers import settings_list

PAGE = Path(__file__).parents[2] / "docs" / "CONFIG.md"
HEAD = """# Settings

A setting is taken from `$HEARTH_HOME/hearth.toml`, then from its environment variable, then from a flag
(`--set key=value`, or its own flag where it has one); the later wins. An unknown key is an error that names
the file and the key. `hearth config` shows what is in force. A list in a variable is separated by commas.

| setting | default | variable | what it is for |
|---|---|---|---|
"""


def page() -> str:
    rows = [
        f"| `{setting.key}` | {_shown(setting.default)} | `{setting.variable}` | {setting.description} |"
        for setting in settings_list()
    ]
    return HEAD + "\n".join(rows) + "\n"


def _shown(default: Any) -> str:
    if default in ((), ""):
        return "–"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def test_the_page_lists_every_setting_as_the_schema_has_it() -> None:
    assert PAGE.read_text("utf-8") == page(), f"run `python {Path(__file__).name} --write`"


def test_every_setting_says_what_it_is_for() -> None:
    assert [setting.key for setting in settings_list() if not setting.description] == []


if __name__ == "__main__" and "--write" in sys.argv:
    PAGE.write_text(page(), "utf-8")
