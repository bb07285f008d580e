"""HTML as a reader sees it: headings, paragraphs, list items, table rows; no scripts, styles or menus."""

from __future__ import annotations

import re
from collections.abc import Iterator

from selectolax.lexbor import LexborHTMLParser, LexborNode

from appliance.knowledge.extract.plain import decoded
from appliance.knowledge.text import Block, SpanKind

INVISIBLE = "script, style, noscript, template, svg, nav, head > *:not(title), iframe, select, button"
HEADINGS = {f"h{level}": level for level in range(1, 7)}
BLOCKS = frozenset(
    "address article aside blockquote body caption center dd details div dl dt fieldset figcaption figure"
    " footer form header hr html legend li main ol p section summary table tbody tfoot thead tr ul".split()
)
_CHARSET = re.compile(
    rb"""<(?:meta[^>]+charset|\?xml[^>]+encoding)\s*=\s*["']?([A-Za-z0-9_.:-]+)""", re.IGNORECASE
)
_SPACES = re.compile(r"[ \t\n\r\f\u00a0]+")


def read_html(content: bytes) -> Iterator[Block]:
    yield from blocks_of(_decoded(content))


def blocks_of(html: str, page: int = 0) -> Iterator[Block]:
    """The blocks of an HTML text; also for what a mail or a book has of it."""
    tree = LexborHTMLParser(html)
    for node in tree.css(INVISIBLE):
        node.decompose()
    title = tree.css_first("title")
    if title is not None and tree.css_first("h1") is None:
        yield Block("heading", _SPACES.sub(" ", title.text(deep=True)), 1, page)
    if tree.body is not None:
        yield from _Walk(page).blocks(tree.body)


def _decoded(content: bytes) -> str:
    """By the encoding that the page names, if it names a true one."""
    match = _CHARSET.search(content[:4096])
    if match is not None:
        try:
            return content.decode(match[1].decode("ascii"))
        except (LookupError, UnicodeError):  # also what is no encoding of texts, such as punycode
            pass
    return decoded(content)


class _Walk:
    """Goes through the tree without recursion, so that no depth of nesting can exhaust the stack."""

    def __init__(self, page: int) -> None:
        self._page = page
        self._inline: list[str] = []

    def blocks(self, root: LexborNode) -> Iterator[Block]:
        stack: list[LexborNode | None] = [root]
        while stack:
            node = stack.pop()
            if node is None:
                yield from self._flush()
                continue
            tag = node.tag or ""
            if tag == "-text":
                self._inline.append(node.text(deep=False) or "")
            elif tag in HEADINGS:
                yield from self._flush()
                yield self._block("heading", _flat(node), HEADINGS[tag])
            elif tag == "pre":
                yield from self._flush()
                yield self._block("code", node.text(deep=True))
            elif tag == "tr":
                yield from self._flush()
                cells = [_flat(cell) for cell in node.iter() if cell.tag in ("td", "th")]
                yield self._block("row", " | ".join(cell for cell in cells if cell))
            elif tag == "br":
                self._inline.append(" ")
            else:
                if tag in BLOCKS:
                    yield from self._flush()
                    stack.append(None)
                stack.extend(reversed(list(node.iter(include_text=True))))
        yield from self._flush()

    def _flush(self) -> Iterator[Block]:
        text = _SPACES.sub(" ", "".join(self._inline)).strip()
        self._inline.clear()
        if text:
            yield self._block("paragraph", text)

    def _block(self, kind: SpanKind, text: str, level: int = 0) -> Block:
        return Block(kind, text, level, self._page)


def _flat(node: LexborNode) -> str:
    return _SPACES.sub(" ", node.text(deep=True, separator=" ")).strip()
