"""Options that several commands share."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import click


def _use_key(context: click.Context, parameter: click.Parameter, key: str | None) -> None:
    """Every client that this process makes shows it."""
    if key:
        os.environ["HEARTH_API_KEY"] = key


_URL = click.option("--url", metavar="URL", help="The server. Default: $HEARTH_URL, else this home's own.")
_KEY = click.option(
    "--key",
    metavar="KEY",
    expose_value=False,
    callback=_use_key,
    help="The key for it. Default: $HEARTH_API_KEY, which others on this machine cannot see.",
)


def URL(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--url`, which the command gets, and `--key`, which its clients do."""
    return _URL(_KEY(command))
