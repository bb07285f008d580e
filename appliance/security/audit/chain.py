"""One line of the chain: its bytes, its HMAC, and whether they fit.

Pure. A line is JSON whose last member is `mac`: the HMAC-SHA256, under the log's key, of the bytes before it.
As the entry names its number and the `mac` of the line before, no line can be changed, taken out, put in or
moved without the key. The bytes are compared as they are: nothing depends on how JSON is written.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import NamedTuple

import msgspec

from appliance.audit import AuditEntry

GENESIS = "0" * 64  # `prev` of the first line
USER_CHARACTERS = 20
_SEAL = b',"mac":"'
_SEAL_BYTES = len(_SEAL) + 64 + len(b'"}')
_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(AuditEntry)


class Link(NamedTuple):
    """The end of a chain: its last line's number and `mac`."""

    seq: int
    mac: str


BEGINNING = Link(0, GENESIS)


class SealedLine(NamedTuple):
    """A line as read. `is_genuine`: its `mac` fits its bytes."""

    entry: AuditEntry
    mac: str
    is_genuine: bool


def mac_of(key: bytes, content: bytes) -> str:
    return hmac.digest(key, content, hashlib.sha256).hex()


def user_of(key: bytes, name: str) -> str:
    """The name of a user as lines have it; empty for nobody."""
    return mac_of(key, b"user\0" + name.encode("utf-8", "surrogatepass"))[:USER_CHARACTERS] if name else ""


def seal(key: bytes, entry: AuditEntry) -> tuple[bytes, Link]:
    """The entry as a line with its newline, and the chain's new end."""
    body = _encode(entry)
    mac = mac_of(key, body)
    return body[:-1] + _SEAL + mac.encode("ascii") + b'"}\n', Link(entry.seq, mac)


def read_line(key: bytes, line: bytes) -> SealedLine | None:
    """A line without its newline; None for what is no line of an audit log."""
    body, sealed = line[:-_SEAL_BYTES] + b"}", line[-_SEAL_BYTES:]
    if not (sealed.startswith(_SEAL) and sealed.endswith(b'"}')):
        return None
    try:
        mac = sealed[len(_SEAL) : -2].decode("ascii")
        entry = _decoder.decode(body)
    except (UnicodeDecodeError, msgspec.MsgspecError):
        return None
    return SealedLine(entry, mac, hmac.compare_digest(mac, mac_of(key, body)))
