"""Where the running server of a home is: one line in a file, so that commands in the same home find it.

Knows no HTTP. A server that was killed leaves its line behind; the next one replaces it.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from appliance import paths

LONGEST = 300
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # listening on all addresses, this machine's among them


def tell(home: Path, url: str) -> None:
    """The server of this home is at `url` from now on."""
    file = paths.address(home)
    fresh = file.with_name(f"{file.name}.partial")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as line:
        line.write(f"{url}\n")
    fresh.replace(file)


def forget(home: Path, url: str) -> None:
    """The server at `url` has ended; another's line stays."""
    if _read(home) == url:
        with contextlib.suppress(OSError):
            paths.address(home).unlink()


def find(home: Path) -> str | None:
    """The address to ask, or None where no server of this home has told one."""
    url = _read(home)
    if url is None:
        return None
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or parts.hostname is None:
        return None
    here = EVERYWHERE.get(parts.hostname)
    return url if here is None else urlunsplit(parts._replace(netloc=f"{here}:{parts.port}"))


def _read(home: Path) -> str | None:
    try:
        with paths.address(home).open("rb") as file:
            return file.read(LONGEST).decode("ascii").strip() or None
    except (OSError, UnicodeDecodeError):
        return None
