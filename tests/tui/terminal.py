"""A terminal with somebody at its keys: tmux, so that the program is run as anybody would run it."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

PATIENCE = 90.0
KEY_SECONDS = 3.0  # a key that shows nothing may be without effect where it is pressed
SAME_LOOKS = 3  # the screen has settled after so many equal looks
LOOK_SECONDS = 0.06


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
        """Keys by tmux's names: Enter, Tab, BTab, Escape, Down, C-s. Each once the one before it shows.

        A terminal program that is kept waiting reads several keys at once: Escape and a letter are then Alt
        and the letter, and what follows a Tab can reach the field before it.
        """
        for key in keys:
            before = self._look()
            self._tmux("send-keys", key)
            self._wait_for_change(before)

    def type(self, words: str) -> None:
        before = self._look()
        self._tmux("send-keys", "-l", words)
        self._wait_for_change(before)

    def sees(self, *words: str, seconds: float = PATIENCE) -> str:
        """Waits until all of `words` are there and the screen has settled: keys go to what has just come."""
        self._wait_until(lambda text: all(word in text for word in words), words, seconds)
        self._settle()
        return self.text

    def sees_no(self, words: str, seconds: float = PATIENCE) -> None:
        self._wait_until(lambda text: words not in text, ("no longer", words), seconds)
        self._settle()

    def _wait_until(self, holds: Callable[[str], bool], what: Sequence[str], seconds: float) -> None:
        ends_at = time.monotonic() + seconds
        while not holds(text := self.text):
            assert time.monotonic() < ends_at, f"not within {seconds} s: {what}\n{text}"
            time.sleep(LOOK_SECONDS)

    def _look(self) -> str:
        """The screen with its colours: they tell where the keys go."""
        return self._tmux("capture-pane", "-p", "-e")

    def _wait_for_change(self, before: str) -> None:
        ends_at = time.monotonic() + KEY_SECONDS
        while self._look() == before and time.monotonic() < ends_at:
            time.sleep(LOOK_SECONDS / 4)
        self._settle()

    def _settle(self) -> None:
        """Until looks are the same, or a clock or a cursor has changed each of them."""
        ends_at = time.monotonic() + KEY_SECONDS
        last, same = self._look(), 0
        while same < SAME_LOOKS and time.monotonic() < ends_at:
            time.sleep(LOOK_SECONDS)
            now = self._look()
            last, same = now, same + 1 if now == last else 0

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
