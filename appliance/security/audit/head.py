"""The file that remembers the chain's end, so that lines cut off at the end are missed.

Two slots of fixed size, written in turn in place: a write that is torn leaves the other. It is written after
the lines that it names are on the disk, so it is never ahead of an honest log; behind it may be, after a
power cut, by what the log has more.
"""

from __future__ import annotations

import hmac
import os
from pathlib import Path

import msgspec

from appliance.security.audit.chain import Link, mac_of

SLOT_BYTES = 256


class _Slot(msgspec.Struct):
    seq: int
    mac: str
    tag: str


class Head:
    """Open for writing; `close` at the end."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if os.fstat(self._descriptor).st_size < 2 * SLOT_BYTES:
            os.pwrite(self._descriptor, b" " * (2 * SLOT_BYTES), 0)  # its room is taken before the disk fills
        self._turn = 0

    def write(self, key: bytes, end: Link) -> None:
        """Raises OSError."""
        slot = msgspec.json.encode(_Slot(end.seq, end.mac, _tag(key, end.seq, end.mac)))
        os.pwrite(self._descriptor, slot.ljust(SLOT_BYTES), self._turn * SLOT_BYTES)
        self._turn = 1 - self._turn

    def close(self) -> None:
        os.close(self._descriptor)


def read_head(key: bytes, path: Path) -> Link | None:
    """The end that was written last; None where there is no file, or none of its slots is genuine."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    found: list[Link] = []
    for place in (0, SLOT_BYTES):
        try:
            slot = msgspec.json.decode(content[place : place + SLOT_BYTES], type=_Slot)
        except msgspec.MsgspecError:
            continue
        if hmac.compare_digest(slot.tag, _tag(key, slot.seq, slot.mac)):
            found.append(Link(slot.seq, slot.mac))
    return max(found, default=None)


def _tag(key: bytes, seq: int, mac: str) -> str:
    return mac_of(key, f"head\0{seq}\0{mac}".encode())
