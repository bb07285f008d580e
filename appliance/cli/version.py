"""`hearth version`."""

from __future__ import annotations

import click

from appliance.version import VERSION


@click.command()
def version() -> None:
    """Print the version."""
    click.echo(f"hearth {VERSION}")
