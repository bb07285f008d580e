"""From a choice's token bytes to what a client may see of it: text, reasoning and tool calls."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from appliance.llm.dialects.answer import AnswerParser, Said
from appliance.llm.text import TextStream

NOTHING = Said()


class AnswerStream:
    """`parser` None: all is text. `visible`: control tokens whose texts the parser must see.

    Stop strings count in the text of the answer only, neither in its reasoning nor in its calls.
    """

    def __init__(
        self,
        stop: Sequence[str] = (),
        parser: AnswerParser | None = None,
        visible: frozenset[int] = frozenset(),
    ) -> None:
        self.visible = visible
        self.reasoning_tokens = 0
        self._parser = parser
        self._decoder = TextStream() if parser else None
        self._text = TextStream(stop)

    @property
    def stopped(self) -> bool:
        """Whether the answer is over though the model has not said so."""
        return self._text.stopped or (self._parser is not None and self._parser.is_done)

    @property
    def stop_word(self) -> str | None:
        return self._text.stop_word

    @property
    def has_calls(self) -> bool:
        return self._parser is not None and self._parser.has_calls

    @property
    def warnings(self) -> tuple[str, ...]:
        return self._parser.warnings if self._parser else ()

    def push(self, raw: bytes) -> Said:
        """What one token makes certain."""
        if self._parser is None or self._decoder is None:
            return Said(self._text.push(raw))
        self.reasoning_tokens += self._parser.is_thinking
        said = self._parser.push(self._decoder.push(raw))
        return said._replace(text=self._text.push(said.text.encode())) if said.text else said

    def finish(self, *, whole: bool) -> Said:
        """What was still held back. `whole`: the model ended by itself, it was not cut off."""
        if self._parser is None or self._decoder is None:
            return Said(self._text.finish())
        if self._text.stopped:
            return NOTHING
        said = self._parser.push(self._decoder.finish())
        rest = self._parser.finish(whole=whole)
        text = self._text.push((said.text + rest.text).encode()) + self._text.finish()
        return Said(text, said.reasoning + rest.reasoning, said.tool_calls + rest.tool_calls)


def joined(pieces: Iterable[Said]) -> Said:
    """Several pieces of one answer as one."""
    pieces = list(pieces)
    return Said(
        "".join(piece.text for piece in pieces),
        "".join(piece.reasoning for piece in pieces),
        tuple(delta for piece in pieces for delta in piece.tool_calls),
    )
