"""PDF: the text of each page; the outline's titles as headings where their pages begin."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pypdfium2

from appliance.knowledge.extract.errors import Unreadable
from appliance.knowledge.text import Block

MOST_PAGES = 20_000
_HYPHEN = re.compile(r"(?<=[a-zß-ÿ])[\u00ad\ufffe\u0002-]\n(?=[a-zß-ÿ])")
_CJK_BREAK = re.compile(r"(?<=[\u3040-\u30ff\u3400-\u9fff，、；：])\n(?=[\u3040-\u30ff\u3400-\u9fff])")
_LEADER = re.compile(r"(?:\s?\.){4,}")  # the dots between a title and its page in a table of contents
_PARAGRAPH = re.compile(r"(?<=[.!?:。！？：])\n(?=[^a-z])|\n{2,}")


def read_pdf(path: Path) -> Iterator[Block]:
    try:
        document = pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as error:
        raise Unreadable(_reason(error)) from error
    if len(document) > MOST_PAGES:
        raise Unreadable(f"it has {len(document):,} pages; at most {MOST_PAGES:,} are read")
    titles = _titles(document)
    found = False
    for number in range(len(document)):
        for level, title in titles.get(number, ()):
            yield Block("heading", title, level, number + 1)
        for paragraph in _paragraphs(_page_text(document, number)):
            found = True
            yield Block("paragraph", paragraph, 0, number + 1)
    if not found:
        raise Unreadable(
            "it holds no text, only pictures: a scan needs to be put through text recognition (OCR) first"
        )


def _page_text(document: pypdfium2.PdfDocument, number: int) -> str:
    try:
        page = document[number]
        text: str = page.get_textpage().get_text_bounded()
        page.close()
    except pypdfium2.PdfiumError as error:
        raise Unreadable(f"its page {number + 1} is damaged: {error}") from error
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")


def _paragraphs(text: str) -> Iterator[str]:
    """A page's lines joined again: words across hyphens, Chinese and Japanese without a space."""
    text = _LEADER.sub(" …", _CJK_BREAK.sub("", _HYPHEN.sub("", text)))
    for paragraph in _PARAGRAPH.split(text):
        yield " ".join(paragraph.split())


def _titles(document: pypdfium2.PdfDocument) -> dict[int, list[tuple[int, str]]]:
    found: dict[int, list[tuple[int, str]]] = {}
    for entry in document.get_toc(max_depth=6):
        destination = entry.get_dest()
        page = destination.get_index() if destination is not None else None
        title = (entry.get_title() or "").strip()
        if page is not None and title:
            found.setdefault(page, []).append((min(6, entry.level + 1), title))
    return found


def _reason(error: pypdfium2.PdfiumError) -> str:
    if error.err_code == PASSWORD_NEEDED:
        return "it is protected by a password; save it without one"
    return f"it is damaged, or no PDF: {error}"


PASSWORD_NEEDED = 4  # FPDF_ERR_PASSWORD of pdfium's fpdfview.h
