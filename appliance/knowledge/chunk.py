"""A document into chunks: pieces that an embedder can take in, cut where the text itself pauses. Pure.

Chunks hold whole sentences while they fit, end at paragraphs rather than inside them, and begin anew at a
heading. What follows a cut repeats the end of what was before it, so that no thought is lost between two.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from appliance.knowledge.text import DocumentText, Span

CountTokens = Callable[[Sequence[str]], Sequence[int]]

HEADING_CHARS = 160
PATH_SEPARATOR = " › "

# A sentence ends after its closing punctuation and quotes; in CJK text no space follows.
_SENTENCE_END = re.compile(
    r"""(?<=[.!?…])["'”’)\]]*\s+(?=[^\sa-z]) | (?<=[。！？；…])[”’」』）】]*\s* | \n+""", re.VERBOSE
)
_WORD_END = re.compile(r"(?<=\s)|(?<=[、，,;；：:/])")


class Piece(NamedTuple):
    """A chunk to be: the characters [begins, ends), its page and its path of headings."""

    begins: int
    ends: int
    page: int
    heading: str


class _Unit(NamedTuple):
    """The smallest thing that is not cut: a sentence, a row, a line of code."""

    begins: int
    ends: int
    tokens: int
    most: int  # tokens that a chunk with this unit may have
    page: int
    heading: str
    starts_block: bool
    is_heading: bool


def chunk(document: DocumentText, count: CountTokens, limit: int, overlap: int, room: int) -> list[Piece]:
    """The document's chunks of at most `limit` tokens, the next repeating at most `overlap` of the last.

    `room` is what the embedder takes beside its own special tokens; with its headings in front a chunk
    never exceeds it. `count` gives each text's tokens.
    """
    if not document.spans:
        return []
    units = _units(document, count, limit, room)
    pieces: list[Piece] = []
    begin = 0
    while begin < len(units):
        end = _end_of_chunk(units, begin)
        first = next((u for u in units[begin:end] if not u.is_heading), units[begin])
        pieces.append(Piece(units[begin].begins, units[end - 1].ends, first.page, first.heading))
        begin = max(_with_overlap(units, begin, end, overlap), begin + 1) if end < len(units) else end
    return pieces


def embedded_text(heading: str, text: str) -> str:
    """What the embedder sees of a chunk: its headings, then its text."""
    return f"{heading}\n{text}" if heading else text


def _end_of_chunk(units: list[_Unit], begin: int) -> int:
    """Where the chunk that begins at `begin` ends: at the last pause that is good enough and fits."""
    total, end, pause, limit = 0, begin, begin, units[begin].most
    while end < len(units):
        unit = units[end]
        limit = min(limit, unit.most)
        if end > begin:
            if unit.is_heading and not units[end - 1].is_heading and 4 * total >= limit:
                return end
            if unit.starts_block and 2 * total >= limit:
                pause = end
        if total + unit.tokens > limit and end > begin:
            return pause if pause > begin else end
        total += unit.tokens
        end += 1
    return end


def _with_overlap(units: list[_Unit], begin: int, end: int, overlap: int) -> int:
    """Where the next chunk begins: at `end`, or before it by as much as may be repeated."""
    if units[end].is_heading or units[end - 1].is_heading:
        return end
    total, start = 0, end
    while start - 1 > begin and not units[start - 1].is_heading:
        total += units[start - 1].tokens
        if total > overlap:
            break
        start -= 1
    return start


def _units(document: DocumentText, count: CountTokens, limit: int, room: int) -> list[_Unit]:
    places: list[tuple[Span, int, int, str]] = []
    path: list[tuple[int, str]] = []
    for span in document.spans:
        if span.kind == "heading":
            level = span.level or 1
            path = [(other, title) for other, title in path if other < level]
            path.append((level, " ".join(document.text[span.begins : span.ends].split())))
        heading = _path_text([title for _, title in path])
        for begins, ends in _sentences(document.text, span):
            places.append((span, begins, ends, heading))
    headings = list(dict.fromkeys(heading for _, _, _, heading in places))
    spent = dict(zip(headings, count([f"{heading}\n" for heading in headings]), strict=True))
    sizes = count([document.text[begins:ends] for _, begins, ends, _ in places])
    units: list[_Unit] = []
    for (span, begins, ends, heading), size in zip(places, sizes, strict=True):
        most = max(8, min(limit, room - spent[heading]))
        for part_begins, part_ends, tokens in _within(document.text, begins, ends, size, most, count):
            starts = part_begins == span.begins
            units.append(
                _Unit(
                    part_begins, part_ends, tokens, most, span.page, heading, starts, span.kind == "heading"
                )
            )
    return units


def _path_text(titles: list[str]) -> str:
    """The path of headings, shortened from its beginning."""
    text = PATH_SEPARATOR.join(titles)
    return text if len(text) <= HEADING_CHARS else "…" + text[-HEADING_CHARS:]


def _sentences(text: str, span: Span) -> Iterator[tuple[int, int]]:
    """The span's sentences, or the lines of code; headings and rows are one."""
    if span.kind in ("heading", "row"):
        yield span.begins, span.ends
        return
    pattern = re.compile(r"\n") if span.kind == "code" else _SENTENCE_END
    begins = span.begins
    for match in pattern.finditer(text, span.begins, span.ends):
        if match.end() > begins and match.start() > begins:
            yield begins, match.start()
            begins = match.end()
    if begins < span.ends:
        yield begins, span.ends


def _within(
    text: str, begins: int, ends: int, tokens: int, most: int, count: CountTokens
) -> Iterator[tuple[int, int, int]]:
    """The stretch, cut into parts of at most `most` tokens: between words if there are any."""
    if tokens <= most:
        yield begins, ends, tokens
        return
    cuts = [begins + match.start() for match in _WORD_END.finditer(text[begins:ends])]
    middle = (begins + ends) // 2
    inner = [cut for cut in cuts if begins < cut < ends]
    cut = min(inner, key=lambda place: abs(place - middle)) if inner else middle
    if not begins < cut < ends:
        yield begins, ends, tokens  # one character; nothing is left to cut
        return
    sizes = count([text[begins:cut], text[cut:ends]])
    yield from _within(text, begins, cut, sizes[0], most, count)
    yield from _within(text, cut, ends, sizes[1], most, count)
