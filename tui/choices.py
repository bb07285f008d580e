"""What the operator chose, kept in a small file: language, colours, which servers were set up, whether
conversations are kept. The command line goes before it.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import msgspec

MOST_SERVERS = 50


class Kept(msgspec.Struct, omit_defaults=True):
    """The file's content; what it does not know it leaves."""

    language: str = ""
    theme: str = ""
    set_up: tuple[str, ...] = ()
    keeps_conversations: bool = True


class Choices:
    """`file` None: nothing is kept. What cannot be read or written is as if never chosen.

    `offers_setup`: whether a server that nobody has set up is offered to be. `set_up`: the addresses of those
    whose setup was finished or skipped.
    """

    def __init__(
        self,
        file: Path | None = None,
        *,
        language: str = "en",
        theme: str = "hearth-dark",
        no_color: bool = False,
        ascii: bool = False,
        offers_setup: bool = False,
    ) -> None:
        self._file = file
        self._kept = _read(file)
        self.language = self._kept.language or language
        self.theme = self._kept.theme or theme
        self.no_color = no_color
        self.ascii = ascii
        self.offers_setup = offers_setup

    def is_set_up(self, url: str) -> bool:
        return url in self._kept.set_up

    def keep_set_up(self, url: str) -> None:
        others = tuple(each for each in self._kept.set_up if each != url)
        self.keep(set_up=(*others, url)[-MOST_SERVERS:])

    @property
    def keeps_conversations(self) -> bool:
        return self._kept.keeps_conversations

    def keep(self, **chosen: Any) -> None:
        self._kept = msgspec.structs.replace(self._kept, **chosen)
        if self._file is None:
            return
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            written = self._file.with_suffix(".new")
            written.write_bytes(msgspec.json.encode(self._kept))
            os.replace(written, self._file)


def _read(file: Path | None) -> Kept:
    if file is None:
        return Kept()
    try:
        return msgspec.json.decode(file.read_bytes(), type=Kept)
    except (OSError, msgspec.MsgspecError):
        return Kept()
