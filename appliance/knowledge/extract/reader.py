"""Which reader a file needs, told by its content first and by its name second.

Runs in the extractor process only: it imports a library when a file needs it.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path, PurePath

from appliance.knowledge.extract.archive import checked
from appliance.knowledge.extract.errors import TooMuchText, Unreadable
from appliance.knowledge.extract.kinds import START_BYTES, ZIP, is_html, is_pdf
from appliance.knowledge.extract.markdown import read_markdown
from appliance.knowledge.extract.plain import read_code, read_text
from appliance.knowledge.text import Block, DocumentText, joined

CODE_SUFFIXES = frozenset(
    ".ada .asm .awk .bash .bat .c .cc .clj .cmake .cpp .cs .css .cxx .dart .el .erl .ex .f90 .fs .go"
    " .gradle .groovy .h .hh .hpp .hs .ini .java .jl .js .json .jsonl .jsx .kt .kts .lisp .lua .m .mjs"
    " .ml .mm .nix .pas .php .pl .pm .proto .ps1 .py .pyi .r .rb .rs .s .scala .scm .sh .sql .swift .tcl"
    " .tf .toml .ts .tsx .v .vb .vhd .vim .xml .yaml .yml .zig".split()
)
MARKDOWN_SUFFIXES = frozenset({".md", ".markdown", ".mdx"})
HTML_SUFFIXES = frozenset({".html", ".htm", ".xhtml"})
CSV_SUFFIXES = frozenset({".csv", ".tsv"})
OTHER_SIGNATURES = {
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"GIF8": "a picture",
    b"\xd0\xcf\x11\xe0": "an old Microsoft Office file; save it in the current format",
    b"\x1f\x8b": "a compressed file; unpack it first",
    b"BZh": "a compressed file; unpack it first",
    b"\xfd7zXZ": "a compressed file; unpack it first",
    b"7z\xbc\xaf": "a compressed file; unpack it first",
    b"\x7fELF": "a program",
    b"MZ\x90": "a program",
}
ZIPPED = {  # a part that only this format has → the module that reads it
    "word/document.xml": "docx",
    "ppt/presentation.xml": "pptx",
    "xl/workbook.xml": "xlsx",
    "META-INF/container.xml": "epub",
}


def read(path: Path, name: str, most_chars: int) -> DocumentText:
    """The document's text. Raises Unreadable with the reason, TooMuchText over `most_chars`."""
    document = joined(_within(_sound(path, PurePath(name).suffix.lower()), most_chars))
    if not document.text:
        raise Unreadable("it holds no text")
    return document


def _within(blocks: Iterator[Block], most_chars: int) -> Iterator[Block]:
    total = 0
    for block in blocks:
        total += len(block.text) + 2
        if total > most_chars:
            raise TooMuchText(most_chars)
        yield block


def _blocks(path: Path, suffix: str) -> Iterator[Block]:
    with path.open("rb") as file:
        start = file.read(START_BYTES)
    if is_pdf(start):
        from appliance.knowledge.extract.pdf import read_pdf

        return read_pdf(path)
    if start.startswith(ZIP):
        return _zipped(path)
    for signature, what in OTHER_SIGNATURES.items():
        if start.startswith(signature):
            raise Unreadable(f"it is {what}", "unsupported_file")
    if suffix in (".pdf", ".docx", ".pptx", ".xlsx", ".epub"):
        raise Unreadable(f"it is named {suffix} but is no such file")
    return _text(path.read_bytes(), start, suffix)


def _zipped(path: Path) -> Iterator[Block]:
    names = checked(path)
    for part, module in ZIPPED.items():
        if part in names:
            reader = importlib.import_module(f"appliance.knowledge.extract.{module}")
            blocks: Iterator[Block] = getattr(reader, f"read_{module}")(path)
            return blocks
    raise Unreadable("it is a zip file; unpack it first", "unsupported_file")


def _sound(path: Path, suffix: str) -> Iterator[Block]:
    """The blocks, with what the libraries raise for a broken file told in our words: lxml and the Office
    libraries have trees of their own, and everything else that Python knows is raised as well."""
    try:
        yield from _blocks(path, suffix)
    except (Unreadable, MemoryError, RecursionError, FileNotFoundError, PermissionError):
        raise
    except Exception as error:
        raise Unreadable(f"it is damaged: {type(error).__name__}: {error}") from error


def _text(content: bytes, start: bytes, suffix: str) -> Iterator[Block]:
    """A reader is imported where it is needed: some bring libraries that take longer than a document."""
    if suffix in HTML_SUFFIXES or is_html(start):
        from appliance.knowledge.extract.html import read_html

        return read_html(content)
    if suffix in CSV_SUFFIXES:
        from appliance.knowledge.extract.tables import read_csv

        return read_csv(content)
    if suffix == ".eml":
        from appliance.knowledge.extract.mail import read_mail

        return read_mail(content)
    if suffix in MARKDOWN_SUFFIXES:
        return read_markdown(content)
    return read_code(content) if suffix in CODE_SUFFIXES else read_text(content)
