"""`hearth support-bundle`: what a helper needs to see, without secrets and without anybody's text."""

from __future__ import annotations

import time
from pathlib import Path

import click

from appliance.cli.options import URL
from appliance.cli.settings import load_settings, open_library
from appliance.client import Client
from appliance.support import write_bundle


@click.command(short_help="Collect what somebody who helps needs to see, without secrets.")
@click.argument("file", required=False, type=click.Path(dir_okay=False, path_type=Path))
@URL
def support_bundle(file: Path | None, url: str | None) -> None:
    """Write FILE, a zip of this installation's state: versions, machine, settings, status, figures, log.

    It holds no prompts, answers, documents, keys or audit lines. Look through it before you give it away.
    """
    target = file or Path(f"hearth-support-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}.zip")
    with Client(url) as client:
        missing = write_bundle(target, load_settings(), open_library(), client)
    click.echo(f"{target}: {target.stat().st_size} bytes")
    for line in missing:
        click.echo(f"  without {line}")
