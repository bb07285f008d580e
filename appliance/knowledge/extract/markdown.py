"""Markdown: headings, paragraphs, tables and fenced code. Marks inside a line stay as they are."""

from __future__ import annotations

import re
from collections.abc import Iterator

from appliance.knowledge.extract.plain import decoded
from appliance.knowledge.text import Block

_HEADING = re.compile(r"\A {0,3}(#{1,6})(?:[ \t]+(.*?))??(?:[ \t]+#+)?[ \t]*\Z")
_FENCE = re.compile(r"\A {0,3}(`{3,}|~{3,})")
_UNDERLINE = re.compile(r"\A {0,3}(=+|-{2,})[ \t]*\Z")
_TABLE_RULE = re.compile(r"\A[ \t|:-]+\Z")


def read_markdown(content: bytes) -> Iterator[Block]:
    lines = decoded(content).split("\n")
    if lines[0].strip() == "---" and "---" in (line.strip() for line in lines[1:100]):
        lines = lines[next(n for n, line in enumerate(lines[1:], 1) if line.strip() == "---") + 1 :]
    waiting: list[str] = []
    fence: str | None = None
    for line in lines:
        if fence is not None:
            if line.strip().startswith(fence) and not line.strip().strip(fence[0]):
                yield Block("code", "\n".join(waiting))
                waiting, fence = [], None
            else:
                waiting.append(line)
        elif match := _FENCE.match(line):
            yield from _paragraph(waiting)
            waiting, fence = [], match[1]
        elif match := _HEADING.match(line):
            yield from _paragraph(waiting)
            waiting = []
            yield Block("heading", match[2] or "", len(match[1]))
        elif waiting and _UNDERLINE.match(line):
            yield Block("heading", " ".join(waiting), 1 if "=" in line else 2)
            waiting = []
        elif not line.strip():
            yield from _paragraph(waiting)
            waiting = []
        else:
            waiting.append(line)
    yield from [Block("code", "\n".join(waiting))] if fence is not None else _paragraph(waiting)


def _paragraph(lines: list[str]) -> Iterator[Block]:
    if lines and all(line.lstrip().startswith("|") for line in lines):
        for line in lines:
            if not _TABLE_RULE.match(line):
                yield Block("row", " | ".join(cell.strip() for cell in line.strip().strip("|").split("|")))
    elif lines:
        yield Block("paragraph", "\n".join(line.rstrip() for line in lines))
