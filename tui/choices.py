"""What the operator chose, kept in a small file: language and theme. The command line goes before it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec


class Kept(msgspec.Struct, omit_defaults=True):
    """The file's content; what it does not know it leaves."""

    language: str = ""
    theme: str = ""


class Choices:
    """`file` None: nothing is kept. What cannot be read or written is as if never chosen."""

    def __init__(
        self,
        file: Path | None = None,
        *,
        language: str = "en",
        theme: str = "hearth-dark",
        no_color: bool = False,
        ascii: bool = False,
    ) -> None:
        self._file = file
        self._kept = _read(file)
        self.language = self._kept.language or language
        self.theme = self._kept.theme or theme
        self.no_color = no_color
        self.ascii = ascii

    def keep(self, **chosen: str) -> None:
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
