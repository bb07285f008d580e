"""A question or an answer of a conversation, as Markdown; an answer grows."""

from __future__ import annotations

from textual.content import Content
from textual.widgets import Markdown

from tui.conversation import Turn


class TurnText(Markdown):
    def __init__(self, turn: Turn) -> None:
        super().__init__(turn.text, classes=f"turn -{turn.role}", open_links=False)
        self.turn = turn
        self._stream = Markdown.get_stream(self) if turn.role == "assistant" and not turn.note else None
        self.border_subtitle = Content(turn.note) if turn.note else ""

    async def add(self, text: str) -> None:
        self.turn.text += text
        if self._stream is not None:
            await self._stream.write(text)

    async def end(self) -> None:
        if self._stream is not None:
            await self._stream.stop()
            self._stream = None
        self.border_subtitle = Content(self.turn.note)
