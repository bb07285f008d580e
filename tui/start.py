"""From the choices of a command line to a running UI."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tui.app import HearthApp
from tui.choices import Choices
from tui.language import chosen

if TYPE_CHECKING:
    from appliance.client.knowledge import KnowledgeClient
    from tui.backend import Door

CONSOLES = ("linux", "vt")  # values of TERM
THEMES = {"dark": "hearth-dark", "light": "hearth-light", "terminal": "hearth-sixteen"}


def run(
    *,
    url: str | None,
    key: str | None,
    authority: str | None,
    language: str | None,
    theme: str | None,
    ascii: bool | None,
    kept: Path | None,
    chats: Path | None,
) -> None:
    """Shows the UI until the operator leaves it. `kept`: the file with what was chosen before; `chats`: the
    directory with conversations, of nobody where a browser shows the UI.
    """
    choices = Choices(
        kept,
        language=chosen(os.environ),
        theme=_fitting_theme(),
        no_color="NO_COLOR" in os.environ,
        ascii=not _writes_unicode() if ascii is None else ascii,
        offers_setup=True,
    )
    if language is not None:
        choices.language = language
    if theme is not None:
        choices.theme = THEMES[theme]
    own_chats = None if _is_in_browser() else chats
    HearthApp(partial(door, url, key, authority), choices, own_chats).run()


def door(url: str | None, key: str | None, authority: str | None, other_key: str | None) -> Door:
    """What makes the client on the backend's thread; `other_key` in place of the first one."""

    def open() -> KnowledgeClient:
        from tui.transport import open_client

        return open_client(url, other_key or key, authority)

    return open


def _fitting_theme() -> str:
    """Terminals that have sixteen colours get their own."""
    plain = (*CONSOLES, "ansi", "screen", "xterm")
    term = os.environ.get("TERM", "")
    has_more = "256color" in term or os.environ.get("COLORTERM")
    return THEMES["terminal"] if term.startswith(plain) and not has_more else THEMES["dark"]


def _writes_unicode() -> bool:
    """The fonts of consoles have neither round corners nor braille, whatever the locale."""
    if _is_in_browser():
        return True
    is_utf8 = (sys.stdout.encoding or "ascii").lower().replace("-", "") == "utf8"
    return is_utf8 and not os.environ.get("TERM", "").startswith(CONSOLES)


def _is_in_browser() -> bool:
    """Then its visitors are others than the user of this machine that it runs as."""
    return "TEXTUAL_DRIVER" in os.environ
