"""The protobuf wire format, as far as ONNX needs it: a bounded reader and the pieces of a writer.

Format: protobuf's encoding guide; wire types 0 (varint), 1 (64 bit), 2 (length-prefixed), 5 (32 bit). Groups
(3 and 4) are refused. Knows no message's meaning.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from models.errors import MalformedModel
from models.region import Region

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

_MAX_FIELDS = 500_000  # of one file; graphs of small encoders have some 30,000
_MAX_VARINT_BYTES = 10
_WINDOW = 1 << 16


class Field(NamedTuple):
    """`value` is a varint's or fixed field's bits; of a length-prefixed field the span [begin, end)."""

    number: int
    wire: int
    value: int
    begin: int
    end: int


class WireReader:
    """Walks messages inside a region; whatever is not asked for is stepped over unread."""

    def __init__(self, region: Region) -> None:
        self._region = region
        self._window = b""
        self._window_begin = 0
        self._fields = 0

    @property
    def length(self) -> int:
        return self._region.length

    def fields(self, begin: int, end: int) -> Iterator[Field]:
        """The fields of the message at [begin, end). Raises MalformedModel."""
        at = begin
        while at < end:
            self._fields += 1
            if self._fields > _MAX_FIELDS:
                raise self.bad(f"has more than {_MAX_FIELDS:,} fields")
            tag, at = self._varint(at, end)
            number, wire = tag >> 3, tag & 7
            if not 1 <= number < 1 << 29:
                raise self.bad(f"has the impossible field number {number} before byte {at}")
            if wire == VARINT:
                value, at = self._varint(at, end)
                yield Field(number, wire, value, at, at)
            elif wire == BYTES:
                size, at = self._varint(at, end)
                if size > end - at:
                    raise self.bad(f"has a field of {size} bytes at {at} that reaches past its message")
                yield Field(number, wire, 0, at, at + size)
                at += size
            elif wire in (FIXED32, FIXED64):
                size = 4 if wire == FIXED32 else 8
                if size > end - at:
                    raise self.bad(f"ends inside a field at byte {at}")
                yield Field(number, wire, int.from_bytes(self._peek(at, size), "little"), at, at + size)
                at += size
            else:
                raise self.bad(f"has the unsupported wire type {wire} before byte {at}")

    def text(self, field: Field, limit: int) -> str:
        """A string field of at most `limit` bytes. Raises MalformedModel."""
        size = field.end - field.begin
        if field.wire != BYTES or size > limit:
            raise self.bad(f"has no string of at most {limit} bytes at {field.begin}")
        try:
            return self._region.read(field.begin, size).decode()
        except UnicodeDecodeError:
            raise self.bad(f"has a string at byte {field.begin} that is not UTF-8") from None

    def integers(self, field: Field, limit: int) -> list[int]:
        """A repeated int64 field, packed or not, of at most `limit` items. Raises MalformedModel."""
        if field.wire == VARINT:
            return [_signed(field.value)]
        if field.wire != BYTES:
            raise self.bad(f"has no integers at byte {field.begin}")
        values: list[int] = []
        at = field.begin
        while at < field.end:
            value, at = self._varint(at, field.end)
            values.append(_signed(value))
            if len(values) > limit:
                raise self.bad(f"has more than {limit} integers at byte {field.begin}")
        return values

    def integer(self, field: Field) -> int:
        """A single int32 or int64 field. Raises MalformedModel."""
        if field.wire != VARINT:
            raise self.bad(f"has no integer at byte {field.begin}")
        return _signed(field.value)

    def bad(self, problem: str) -> MalformedModel:
        return MalformedModel(self._region.label, problem)

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        raw = self._peek(at, min(_MAX_VARINT_BYTES, end - at))
        value = 0
        for index, byte in enumerate(raw):
            value |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                if value >> 64:
                    break
                return value, at + index + 1
        raise self.bad(f"has an endless or cut varint at byte {at}")

    def _peek(self, at: int, size: int) -> bytes:
        offset = at - self._window_begin
        if offset < 0 or offset + size > len(self._window):
            self._window = self._region.read(at, min(max(size, _WINDOW), self._region.length - at))
            self._window_begin = at
            offset = 0
        return self._window[offset : offset + size]


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def varint(value: int) -> bytes:
    """`value` as a varint; negative ones as 64-bit two's complement."""
    value &= (1 << 64) - 1
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def integer_field(number: int, value: int) -> bytes:
    return varint(number << 3 | VARINT) + varint(value)


def float_field(number: int, value: float) -> bytes:
    return varint(number << 3 | FIXED32) + struct.pack("<f", value)


def bytes_prefix(number: int, size: int) -> bytes:
    """What stands before the `size` bytes of a length-prefixed field."""
    return varint(number << 3 | BYTES) + varint(size)


def bytes_field(number: int, value: bytes) -> bytes:
    return bytes_prefix(number, len(value)) + value


def text_field(number: int, value: str) -> bytes:
    return bytes_field(number, value.encode())
