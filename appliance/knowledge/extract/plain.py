"""Plain text, in whatever encoding: paragraphs at blank lines; source code as it stands."""

from __future__ import annotations

import re
from collections.abc import Iterator

from charset_normalizer import from_bytes

from appliance.knowledge.extract.errors import Unreadable
from appliance.knowledge.text import Block

SAMPLE_BYTES = 64 * 1024
BYTE_ORDER_MARKS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_BLANK_LINES = re.compile(r"\n[ \t]*\n\s*")


def decoded(content: bytes) -> str:
    """The text, with its encoding found out. Raises Unreadable for what is no text."""
    text = _decoded(content)
    if "\0" in text:
        raise Unreadable("it is not text: it holds NUL characters", "unsupported_file")
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n\n")


def _decoded(content: bytes) -> str:
    for mark, encoding in BYTE_ORDER_MARKS:
        if content.startswith(mark):
            return content.decode(encoding, "replace")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start > 0 and len(content) - error.start < 4:
            return content.decode("utf-8", "replace")  # cut off inside its last character
    if b"\0" in content[:SAMPLE_BYTES]:
        raise Unreadable("it is not text, and no document format that is read here", "unsupported_file")
    found = from_bytes(content[:SAMPLE_BYTES]).best()
    if found is None:
        raise Unreadable("its text encoding could not be found out; save it as UTF-8", "unsupported_file")
    return content.decode(found.encoding, "replace")


def read_text(content: bytes) -> Iterator[Block]:
    for paragraph in _BLANK_LINES.split(decoded(content)):
        yield Block("paragraph", paragraph)


def read_code(content: bytes) -> Iterator[Block]:
    for part in _BLANK_LINES.split(decoded(content)):
        yield Block("code", part)
