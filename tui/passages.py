"""What a search found, as text with the words of the question marked. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from textual.content import Content

from tui import format
from tui.language import has, say

MARK = "bold $accent"
PASSAGE = "$foreground on $primary-muted"
SHORTEST_STEM = 4
ENDING = 3  # letters by which the same word may end otherwise
SHOWN = 360  # characters of a passage in a list
BEFORE = 80  # of those, before the first marked word
WINDOW = 20_000  # characters of a document before and behind a passage
COMMON = frozenset(
    "the and for are was has had who how why can did does not you its but with what when".split()
)
CJK = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\uac00-\ud7af"


def words_of(query: str) -> re.Pattern[str] | None:
    """Matches the words of the question in a text, other endings too; CJK in pairs. None: no words."""
    parts: set[str] = set()
    for run in re.findall(rf"[{CJK}]+", query):
        parts |= {re.escape(first + second) for first, second in pairwise(run)} or {re.escape(run)}
    for word in re.findall(rf"[^\W_{CJK}]+", query):
        if word.lower() in COMMON:
            continue
        if len(word) >= SHORTEST_STEM:
            stem = word[: max(SHORTEST_STEM, len(word) - 2)]
            parts.add(rf"\b{re.escape(stem)}\w{{0,{ENDING}}}\b")
        elif len(word) == SHORTEST_STEM - 1:
            parts.add(rf"\b{re.escape(word)}\b")
    return re.compile("|".join(sorted(parts, key=len, reverse=True)), re.IGNORECASE) if parts else None


def marked(text: str, words: re.Pattern[str] | None) -> Content:
    """The text on one line, cut around the first word of the question, its words marked."""
    line = " ".join(text.split())
    first = words.search(line) if words else None
    begin = max(0, first.start() - BEFORE) if first and first.start() > SHOWN - BEFORE else 0
    shown = line[begin : begin + SHOWN]
    cut = Content(("… " if begin else "") + shown + (" …" if begin + SHOWN < len(line) else ""))
    return mark(cut, words)


def mark(text: Content, words: re.Pattern[str] | None) -> Content:
    if words:
        for found in words.finditer(text.plain):
            text = text.stylize(MARK, found.start(), found.end())
    return text


def entry(number: int, hit: Mapping[str, Any], words: re.Pattern[str] | None) -> Content:
    """One hit of a list: where it stands, how well it fits, and what it says."""
    head = Content.assemble(
        (f"[{number}] ", "$foreground-muted"),
        (place(hit["filename"], hit["place"]), "bold $secondary"),
        (f"  {hit['score']:.2f}", "$foreground-muted"),
    )
    return Content("\n").join([head, marked(hit["content"][0]["text"], words), Content("")])


def place(filename: str, where: Mapping[str, Any]) -> str:
    """Where a passage stands, for a reader."""
    page = say("document.page", page=where["page"]) if where["page"] else ""
    return " · ".join(part for part in (filename, page, where["heading"]) if part)


def timings(found: Mapping[str, Any]) -> str:
    """What a search took, and each of its stages, the longest first."""
    stages: Mapping[str, float] = found["timings"] or {}
    longest = sorted(stages.items(), key=lambda stage: stage[1], reverse=True)
    parts = [("total", sum(stages.values())), *longest]
    return " · ".join(f"{_stage(name)} {format.seconds(took)}" for name, took in parts)


def _stage(name: str) -> str:
    return say(f"stage.{name}") if has(f"stage.{name}") else name


def around(text: str, begins: int, ends: int, words: re.Pattern[str] | None = None) -> tuple[Content, str]:
    """A document's text about a passage, which is marked with its words; and what is before it."""
    first, last = max(0, begins - WINDOW), min(len(text), ends + WINDOW)
    before, passage, behind = (
        part.expandtabs(4) for part in (text[first:begins], text[begins:ends], text[ends:last])
    )
    shown = mark(Content(passage), words).stylize_before(PASSAGE)
    return Content.assemble(before, shown, behind), before
