"""The text of a document and its structure, as extraction gives it and chunking reads it. Pure.

A document is one string; spans say which of its characters are a heading, a paragraph, a row or code. What is
between spans are the blank lines that separate them. Places are counted in characters.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from msgspec import Struct, msgpack

SpanKind = Literal["heading", "paragraph", "row", "code"]
SEPARATOR = "\n\n"


class Block(Struct, frozen=True):
    """One piece as a format's reader finds it. `level`: 1 to 6 for headings; `page`: 1, 2, … or 0."""

    kind: SpanKind
    text: str
    level: int = 0
    page: int = 0


class Span(Struct, frozen=True, array_like=True):
    kind: SpanKind
    begins: int
    ends: int
    level: int = 0
    page: int = 0


class DocumentText(Struct, frozen=True):
    text: str
    spans: tuple[Span, ...]


_encoder = msgpack.Encoder()
_decoder = msgpack.Decoder(tuple[Span, ...])


def joined(blocks: Iterable[Block]) -> DocumentText:
    """The blocks as one document; empty ones are left out."""
    parts: list[str] = []
    spans: list[Span] = []
    place = 0
    for block in blocks:
        text = block.text.strip("\n") if block.kind == "code" else block.text.strip()
        if not text:
            continue
        is_row = block.kind == "row" and spans and spans[-1].kind == "row"
        separator = ("\n" if is_row else SEPARATOR) if parts else ""
        begins = place + len(separator)
        place = begins + len(text)
        parts += (separator, text)
        spans.append(Span(block.kind, begins, place, block.level, block.page))
    return DocumentText("".join(parts), tuple(spans))


def pack_spans(spans: tuple[Span, ...]) -> bytes:
    return _encoder.encode(spans)


def unpack_spans(packed: bytes) -> tuple[Span, ...]:
    return _decoder.decode(packed) if packed else ()
