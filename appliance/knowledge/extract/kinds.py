"""Which documents are plain text, which no parser of somebody else's ever sees. Pure, and imports no reader.

Told by the name alone before a file is looked at, by its first bytes when it is: the content decides.
"""

from __future__ import annotations

from pathlib import PurePath

START_BYTES = 1024
ZIP = b"PK\x03\x04"
PARSED_SUFFIXES = frozenset(".pdf .docx .pptx .xlsx .epub .html .htm .xhtml .eml".split())


def is_named_plain(name: str) -> bool:
    return PurePath(name).suffix.lower() not in PARSED_SUFFIXES


def is_plain(start: bytes, name: str) -> bool:
    """`start`: the file's first START_BYTES."""
    return is_named_plain(name) and not (is_pdf(start) or start.startswith(ZIP) or is_html(start))


def is_pdf(start: bytes) -> bool:
    return b"%PDF-" in start


def is_html(start: bytes) -> bool:
    return start.lstrip()[:14].lower().startswith((b"<!doctype html", b"<html"))
