"""From token bytes to text that may be shown: whole UTF-8 characters only, and nothing of a stop string.

Pure; one instance per sequence.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence


class TextStream:
    """Feeds on token bytes, gives out text as early as it is certain.

    Text that might be the beginning of a stop string is held back until the next bytes decide.
    """

    def __init__(self, stop: Sequence[str] = ()) -> None:
        self._stop = tuple(stop)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self.stop_word: str | None = None  # the stop string that was met

    @property
    def stopped(self) -> bool:
        return self.stop_word is not None

    def push(self, raw: bytes) -> str:
        """The text that `raw` makes certain. After a stop string nothing more comes out."""
        if self.stopped:
            return ""
        self._held += self._decoder.decode(raw)
        return self._release()

    def finish(self) -> str:
        """What is still held, at the end of generation; a cut character becomes U+FFFD."""
        if self.stopped:
            return ""
        self._held += self._decoder.decode(b"", final=True)
        text = self._release() + self._held
        self._held = ""
        return text

    def _release(self) -> str:
        found = [(at + len(word), at, word) for word in self._stop if (at := self._held.find(word)) >= 0]
        if found:
            # The first to be complete wins: the only choice that does not depend on how bytes arrive.
            _, start, self.stop_word = min(found)
            text, self._held = self._held[:start], ""
            return text
        keep = max((overlap(self._held, word) for word in self._stop), default=0)
        text, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return text


def overlap(text: str, word: str) -> int:
    """Length of the longest end of `text` that is a beginning of `word`."""
    for length in range(min(len(text), len(word) - 1), 0, -1):
        if word.startswith(text[-length:]):
            return length
    return 0
