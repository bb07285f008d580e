"""Word documents: paragraphs, headings by their styles, table rows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import docx
from docx.document import Document
from docx.table import Table
from docx.text.paragraph import Paragraph

from appliance.knowledge.extract.archive import checked
from appliance.knowledge.text import Block

_HEADING_STYLE = re.compile(r"\Aheading (\d)\Z", re.IGNORECASE)


def read_docx(path: Path) -> Iterator[Block]:
    checked(path)
    document: Document = docx.Document(str(path))
    for item in document.iter_inner_content():
        if isinstance(item, Table):
            for row in item.rows:
                yield Block("row", " | ".join(" ".join(cell.text.split()) for cell in row.cells))
        else:
            yield _paragraph(item)


def _paragraph(paragraph: Paragraph) -> Block:
    style = paragraph.style.name if paragraph.style is not None else ""
    if style == "Title":
        return Block("heading", paragraph.text, 1)
    if match := _HEADING_STYLE.match(style or ""):
        return Block("heading", paragraph.text, min(6, max(1, int(match[1]))))
    return Block("paragraph", paragraph.text)
