"""A terminal with somebody at its keys: tmux, so that the program is run as anybody would run it."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

PATIENCE = 60.0
SETTLE_SECONDS = 0.5


class Terminal:
    """`text` is what it shows. Ends with the block."""

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        size: tuple[int, int] = (100, 32),
    ) -> None:
        self._socket = str(folder / "tmux")
        self._environment = {**environment, "TERM": "xterm-256color", "LANG": "C.UTF-8"}
        width, height = size
        self._tmux("-f", os.devnull, "new-session", "-d", "-x", str(width), "-y", str(height), *command)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self._tmux("kill-server", check=False)

    @property
    def text(self) -> str:
        return self._tmux("capture-pane", "-p")

    def press(self, *keys: str) -> None:
        """Keys by tmux's names: Enter, Tab, BTab, Escape, Down, C-s."""
        for key in keys:
            self._tmux("send-keys", key)
            time.sleep(0.05)

    def type(self, words: str) -> None:
        self._tmux("send-keys", "-l", words)

    def sees(self, *words: str, seconds: float = PATIENCE) -> str:
        """Waits until all of `words` are there."""
        ends_at = time.monotonic() + seconds
        while not all(word in (text := self.text) for word in words):
            assert time.monotonic() < ends_at, f"not within {seconds} s: {words}\n{text}"
            time.sleep(0.1)
        time.sleep(SETTLE_SECONDS)  # the keys go to what has just come
        return text

    def _tmux(self, *words: str, check: bool = True) -> str:
        done = subprocess.run(
            ["tmux", "-S", self._socket, *words],
            env=self._environment,
            capture_output=True,
            text=True,
            check=check,
            timeout=20,
        )
        return done.stdout
