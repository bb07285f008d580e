"""Slides: each a page with its title as heading, its texts, tables and notes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pptx

from appliance.knowledge.extract.archive import checked
from appliance.knowledge.text import Block


def read_pptx(path: Path) -> Iterator[Block]:
    checked(path)
    for number, slide in enumerate(pptx.Presentation(str(path)).slides, 1):
        title = slide.shapes.title
        if title is not None:
            yield Block("heading", _flat(title.text_frame.text), 1, number)
        for shape in slide.shapes:
            if title is None or shape.shape_id != title.shape_id:
                yield from _shape(shape, number)
        if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
            yield Block("paragraph", slide.notes_slide.notes_text_frame.text, 0, number)


def _shape(root: Any, page: int) -> Iterator[Block]:
    waiting = [root]
    while waiting:
        shape = waiting.pop(0)
        if hasattr(shape, "shapes"):
            waiting = [*shape.shapes, *waiting]
        elif getattr(shape, "has_table", False):
            for row in shape.table.rows:
                yield Block("row", " | ".join(_flat(cell.text) for cell in row.cells), 0, page)
        elif shape.has_text_frame:
            yield Block("paragraph", shape.text_frame.text.replace("\v", "\n"), 0, page)


def _flat(text: str) -> str:
    return " ".join(text.split())
