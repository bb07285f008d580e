"""EPUB books: the chapters in reading order, each an HTML document and a page of ours."""

from __future__ import annotations

import posixpath
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from selectolax.lexbor import LexborHTMLParser

from appliance.knowledge.extract.archive import checked
from appliance.knowledge.extract.errors import Unreadable
from appliance.knowledge.extract.html import blocks_of
from appliance.knowledge.extract.plain import decoded
from appliance.knowledge.text import Block

CONTAINER = "META-INF/container.xml"
MOST_PART_BYTES = 64 * 1024 * 1024


def read_epub(path: Path) -> Iterator[Block]:
    names = set(checked(path))
    with zipfile.ZipFile(path) as archive:
        package = _package(archive, names)
        for number, name in enumerate(_chapters(archive, package), 1):
            if name in names:
                yield from blocks_of(decoded(_part(archive, name)), number)


def _package(archive: zipfile.ZipFile, names: set[str]) -> str:
    if CONTAINER not in names:
        raise Unreadable("it is no EPUB: it has no container.xml")
    root = LexborHTMLParser(decoded(_part(archive, CONTAINER))).css_first("rootfile[full-path]")
    package = root.attributes.get("full-path") if root is not None else None
    if not package or package not in names:
        raise Unreadable("it is no EPUB: its container names no package that is there")
    return package


def _chapters(archive: zipfile.ZipFile, package: str) -> Iterator[str]:
    """The spine's documents. XML is read as HTML: only `item` and `itemref` matter, and nesting does not."""
    tree = LexborHTMLParser(decoded(_part(archive, package)))
    folder = posixpath.dirname(package)
    places = {item.attributes.get("id"): item.attributes.get("href") for item in tree.css("item[href]")}
    for reference in tree.css("itemref"):
        place = places.get(reference.attributes.get("idref"))
        if place:
            yield posixpath.normpath(posixpath.join(folder, unquote(place)))


def _part(archive: zipfile.ZipFile, name: str) -> bytes:
    with archive.open(name) as part:
        content = part.read(MOST_PART_BYTES + 1)
    if len(content) > MOST_PART_BYTES:
        raise Unreadable(f"its part {name} is larger than {MOST_PART_BYTES:,} bytes")
    return content
