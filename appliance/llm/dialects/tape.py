"""An answer's text as it arrives, and coroutines that read it: they wait where it does not decide yet.

A reading is a generator that yields whenever it needs more text. Nothing here knows what is being read.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TypeVar

from appliance.llm.text import overlap

Result = TypeVar("Result")
Reading = Generator[None, None, Result]


class Tape:
    """`whole`: whether the model ended its answer by itself, rather than being cut off."""

    def __init__(self) -> None:
        self.held = ""
        self.ended = False
        self.whole = False
        self.space = ""  # the white space that the last `until` left out before what it found
        self._record: list[str] | None = None

    def feed(self, text: str) -> None:
        self.held += text

    def end(self, *, whole: bool) -> None:
        self.ended, self.whole = True, whole

    def record(self) -> None:
        """Remember what is taken from here on."""
        self._record = []

    def recorded(self) -> str:
        """What was taken since `record`, which is forgotten by this."""
        text, self._record = "".join(self._record or ()), None
        return text

    def take(self, count: int) -> str:
        taken, self.held = self.held[:count], self.held[count:]
        if self._record is not None:
            self._record.append(taken)
        return taken

    def more(self) -> Reading[bool]:
        """Wait for more text; False when none will come."""
        size = len(self.held)
        while len(self.held) == size:
            if self.ended:
                return False
            yield
        return True

    def peek(self, count: int = 1) -> Reading[str]:
        """The next `count` characters, fewer at the end of the answer."""
        while len(self.held) < count and (yield from self.more()):
            pass
        return self.held[:count]

    def skip_space(self) -> Reading[str]:
        """Take and return the white space that comes next, all of it."""
        skipped = ""
        while True:
            skipped += self.take(len(self.held) - len(self.held.lstrip()))
            if self.held or not (yield from self.more()):
                return skipped

    def accept(self, word: str) -> Reading[bool]:
        """Take `word` if it comes next."""
        while not self.held.startswith(word):
            if not word.startswith(self.held) or not (yield from self.more()):
                return False
        self.take(len(word))
        return True

    def until(self, stops: tuple[str, ...], say: Callable[[str], None]) -> Reading[str | None]:
        """Pass text on up to the first of `stops`, which then comes next; None: the answer ended first.

        White space before a stop is not passed on but kept in `space`.
        """
        while True:
            found = [(at, -len(stop), stop) for stop in stops if (at := self.held.find(stop)) >= 0]
            if found:
                at, _, stop = min(found)
                if not self.ended and self._may_be_another(at, stop, stops):
                    yield from self.more()
                    continue
                text = self.take(at)
                self.space = text[len(text.rstrip()) :]
                say(text.rstrip())
                return stop
            keep = max((overlap(self.held, stop) for stop in stops), default=0)
            certain = self.held[: len(self.held) - keep].rstrip()
            say(self.take(len(certain)))
            if not (yield from self.more()):
                self.space = ""
                say(self.take(len(self.held)))
                return None

    def drop_rest(self) -> Reading[None]:
        """Take what is left of the answer, for nobody."""
        while (yield from self.more()):
            pass
        self.take(len(self.held))

    def _may_be_another(self, at: int, stop: str, stops: tuple[str, ...]) -> bool:
        """Whether what stands at `at` may yet become a longer stop than `stop`."""
        standing = self.held[at:]
        return any(
            len(other) > len(standing) and other.startswith(standing) for other in stops if other != stop
        )
