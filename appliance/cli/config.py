"""`hearth config`: the settings, what is wrong with them, what changed when, and the way back."""

from __future__ import annotations

import difflib
import getpass
import time
from functools import reduce
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from appliance.cli.settings import (
    SET_OPTION,
    load_settings,
    open_history,
    open_library,
    settings_file,
    settings_loader,
)
from appliance.config.diff import Change, differences
from appliance.config.history import Version, write_whole
from appliance.config.layers import settings_list, tables_of


@click.group(invoke_without_command=True)
@SET_OPTION
@click.pass_context
def config(context: click.Context, assignments: tuple[str, ...]) -> None:
    """Show every setting, check hearth.toml, and go back to an earlier one.

    A setting is taken from $HEARTH_HOME/hearth.toml, then its HEARTH_… variable, then flags. A running server
    takes a changed file at once; what is wrong with it is logged, and the old settings stay.
    """
    if context.invoked_subcommand is None:
        _show(assignments)


@config.command()
@SET_OPTION
def show(assignments: tuple[str, ...]) -> None:
    """Every setting: its value now, its environment variable and what it is for."""
    _show(assignments)


def _show(assignments: tuple[str, ...]) -> None:
    settings = load_settings(assignments)
    file = settings_file()
    click.echo(f"{file}{'' if file.exists() else ' (not there: defaults apply)'}")
    table = Table("setting", "value", "variable", "what it is for", box=None, padding=(0, 2, 0, 0))
    for setting in settings_list():
        value: Any = reduce(getattr, setting.key.split("."), settings)
        shown = f"{len(value)} of them" if any(tables_of(setting)) else _shown(value)
        table.add_row(setting.key, shown, setting.variable, setting.description)
    Console(width=None if Console().is_terminal else 160).print(table)


@config.command()
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
def check(file: Path | None) -> None:
    """Say what is wrong with FILE, or with hearth.toml: settings, platforms, their keys and certificates."""
    # Imported here: only this command needs to know the rooms that settings are for.
    from appliance.routing.local import local_model
    from appliance.routing.router import Router

    path = file or settings_file()
    settings = settings_loader()(path.read_text("utf-8") if path.exists() else "")
    routing = settings.routing
    local = {
        model.name: (
            local_model(model.name, model.manifest.role, context_length=0, quality=routing.local_quality),
            None,
        )
        for model in open_library().list()
        if model.manifest.role != "adapter"
    }
    Router(routing, local, check=lambda host, port: None, directory=settings_file().parent)
    models = sum(len(platform.models) for platform in routing.platforms)
    click.echo(
        f"{path} is right: mode {routing.mode}, {len(routing.platforms)} platforms with {models} models"
    )


@config.command()
@click.argument("version", required=False, type=click.IntRange(1))
@click.argument("other", required=False, type=click.IntRange(1))
def diff(version: int | None, other: int | None) -> None:
    """What hearth.toml changes of the last version taken; or of VERSION; or what OTHER changed of VERSION."""
    history = open_history()
    before = history.get(version) if version else history.latest()
    old = before.text if before else ""
    new = history.get(other).text if other else _file_text()
    load = settings_loader()
    changes = differences(load(old), load(new))
    for change in changes:
        click.echo(str(change))
    if not changes:
        names = (f"version {before.number}" if before else "nothing", f"version {other}" if other else "file")
        lines = list(difflib.unified_diff(old.splitlines(), new.splitlines(), *names, lineterm=""))
        click.echo("\n".join(lines) if lines else "no difference")


@config.command()
@click.option("--last", default=20, show_default=True, type=click.IntRange(1, 500), help="How many to show.")
def history(last: int) -> None:
    """The versions that servers have taken: when, by whom, and what each changed."""
    versions = open_history().versions()[:last]
    for version in versions:
        click.echo(_headline(version))
        for change in version.changes:
            click.echo(f"    {change}")
    if not versions:
        click.echo("no version yet: a server keeps one at its start and at every change")


@config.command()
@click.argument("version", type=click.IntRange(1))
def rollback(version: int) -> None:
    """Make the text of VERSION the settings file again. A running server takes it at once."""
    kept = open_history()
    text = kept.get(version).text
    load = settings_loader()
    wanted = load(text)  # refuses what this build or environment no longer takes
    changes: tuple[Change, ...] = differences(load(_file_text()), wanted)
    write_whole(settings_file(), text.encode())
    kept.record(text, f"{getpass.getuser()} (rollback to {version})", changes)
    for change in changes:
        click.echo(str(change))
    click.echo(f"{settings_file()} is version {version} again")


def _file_text() -> str:
    file = settings_file()
    return file.read_text("utf-8") if file.exists() else ""


def _headline(version: Version) -> str:
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(version.time))
    return f"{version.number:>5}  {when}  {version.author}"


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}={_shown(each)}" for name, each in value.items())
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
