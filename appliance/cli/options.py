"""Options that several commands share."""

from __future__ import annotations

import click

URL = click.option("--url", metavar="URL", help="The server. Default: $HEARTH_URL or http://127.0.0.1:8080.")
