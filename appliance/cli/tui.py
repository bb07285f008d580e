"""`hearth tui`: the terminal UI, on this machine's server or on another."""

from __future__ import annotations

import click

from appliance import paths
from appliance.cli.options import URL


@click.command()
@URL
@click.option(
    "--ca",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False),
    help="Certificates to trust, for a server with one of its own. Default: $HEARTH_CA.",
)
@click.option("--language", type=click.Choice(["en", "zh"]), help="Default: as last chosen, else $LANG.")
@click.option("--theme", type=click.Choice(["dark", "light", "terminal"]), help="Default: as last chosen.")
@click.option("--ascii", is_flag=True, help="Draw with ASCII only, for serial lines and plain fonts.")
def tui(url: str | None, ca: str | None, language: str | None, theme: str | None, ascii: bool) -> None:
    """Manage a server in the terminal: models, knowledge, chat, routing, keys, settings.

    NO_COLOR=1 in the environment leaves out all colours.
    """
    from tui.start import run

    run(
        url=url,
        key=None,  # the environment has it: `--key` is put there
        authority=ca,
        language=language,
        theme=theme,
        ascii=ascii,
        kept=paths.home() / "tui.json",
    )
