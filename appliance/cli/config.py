"""`hearth config`: every setting, its value now, its variable and what it is for."""

from __future__ import annotations

from functools import reduce
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from appliance.cli.settings import SET_OPTION, load_settings, settings_file
from appliance.config.layers import settings_list


@click.command()
@SET_OPTION
def config(assignments: tuple[str, ...]) -> None:
    """Show every setting: its value now, its environment variable and what it is for.

    A setting is taken from $HEARTH_HOME/hearth.toml, then its HEARTH_… variable, then flags.
    """
    settings = load_settings(assignments)
    file = settings_file()
    click.echo(f"{file}{'' if file.exists() else ' (not there: defaults apply)'}")
    table = Table("setting", "value", "variable", "what it is for", box=None, padding=(0, 2, 0, 0))
    for setting in settings_list():
        value: Any = reduce(getattr, setting.key.split("."), settings)
        table.add_row(setting.key, _shown(value), setting.variable, setting.description)
    Console(width=None if Console().is_terminal else 160).print(table)


def _shown(value: Any) -> str:
    return ", ".join(value) if isinstance(value, tuple) else str(value)
