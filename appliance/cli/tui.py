"""`hearth tui`: the terminal UI, on this machine's server or on another."""

from __future__ import annotations

import os
import sys

import click

from appliance import paths
from appliance.cli.options import URL
from appliance.errors import SetupError


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
@click.option(
    "--ascii/--unicode",
    default=None,
    help="Draw with ASCII only, for serial lines and plain fonts. "
    "Default: on bare consoles, and where the locale is not UTF-8.",
)
@click.option(
    "--web", is_flag=True, help="Serve the UI to browsers on this machine, behind the server's keys."
)
@click.option("--web-port", type=click.IntRange(1, 65535), default=8090, show_default=True)
def tui(
    url: str | None,
    ca: str | None,
    language: str | None,
    theme: str | None,
    ascii: bool | None,
    web: bool,
    web_port: int,
) -> None:
    """Manage a server in the terminal: models, knowledge, chat, routing, keys, settings.

    NO_COLOR=1 in the environment leaves out all colours.
    """
    if web:
        _serve(url, ca, language, theme, web_port)
        return
    streams = (sys.__stdin__, sys.__stderr__)  # it reads the one and draws on the other
    has_terminal = all(stream is not None and stream.isatty() for stream in streams)
    if not has_terminal and "TEXTUAL_DRIVER" not in os.environ:
        raise SetupError("the terminal UI needs a terminal; `hearth tui --web` serves it to a browser")
    from tui.start import run

    run(
        url=url,
        key=None,  # the environment has it: `--key` is put there
        authority=ca,
        language=language,
        theme=theme,
        ascii=ascii,
        kept=paths.home() / "tui.json",
        chats=paths.chats(paths.home()),
    )


def _serve(url: str | None, ca: str | None, language: str | None, theme: str | None, port: int) -> None:
    """Each visitor gets a process of this same command, without `--web`."""
    from tui.language import chosen, use
    from tui.web import serve

    given = {"--url": url, "--ca": ca, "--language": language, "--theme": theme}
    flags = [word for flag, value in given.items() if value is not None for word in (flag, value)]
    use(language or chosen(os.environ))
    serve([*paths.self_command(), "tui", *flags], url=url, authority=ca, port=port)
