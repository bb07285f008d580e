"""Reads a GGUF header: key-values and tensor descriptions, never tensor data.

Format: ggml's docs/gguf.md, versions 2 and 3, little-endian. Every count, length, offset and type is
checked against the bytes that are there, as strictly as ggml's own loader or stricter. Long arrays are
walked over, not kept. What the keys mean is `gguf`'s business.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from models.errors import MalformedModel
from models.ggml import TENSOR_TYPES
from models.region import Region

MAGIC = b"GGUF"

_VERSIONS = (2, 3)
_MAX_KEYS = 65_536
_MAX_TENSORS = 65_536
_MAX_KEY_BYTES = 65_535  # the format's own limit
_MAX_STRING_BYTES = 1 << 24
_MAX_ARRAY_ITEMS = 1 << 24
_KEPT_ARRAY_ITEMS = 1_024  # longer arrays are vocabularies; only their length is kept
_UNIQUE = frozenset({"tokenizer.ggml.tokens"})  # llama.cpp ends the process where two of them are the same
_KEPT_ITEMS = 1 << 16  # of all arrays together, so that a hostile header cannot fill the memory
_MAX_TENSOR_NAME_BYTES = 63  # ggml's GGML_MAX_NAME less its NUL
_MAX_DIMENSIONS = 4
_MAX_TENSOR_ELEMENTS = 1 << 50
_MAX_ALIGNMENT = 1 << 20
_DEFAULT_ALIGNMENT = 32
_WINDOWS = (1 << 20, 1 << 23, 1 << 26)  # header bytes read at once; the last is the most accepted

_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
_STRING, _ARRAY = 8, 9
_SCALARS = {
    0: struct.Struct("<B"),
    1: struct.Struct("<b"),
    2: struct.Struct("<H"),
    3: struct.Struct("<h"),
    4: struct.Struct("<I"),
    5: struct.Struct("<i"),
    6: struct.Struct("<f"),
    7: struct.Struct("<?"),
    10: struct.Struct("<Q"),
    11: struct.Struct("<q"),
    12: struct.Struct("<d"),
}

Scalar = int | float | bool | str


class Array(NamedTuple):
    """`items` is None where the array was too long to keep."""

    length: int
    items: tuple[Scalar, ...] | None


class Tensor(NamedTuple):
    """`offset` counts from the start of the data section."""

    name: str
    type: int
    dimensions: tuple[int, ...]
    elements: int
    bytes: int
    offset: int


class Header(NamedTuple):
    """`data_offset` counts from the start of the GGUF; `file_bytes` is where the last tensor ends."""

    version: int
    values: dict[str, Scalar | Array]
    tensors: tuple[Tensor, ...]
    alignment: int
    data_offset: int
    file_bytes: int


class _WindowTooSmall(Exception):
    """The header continues past the bytes read so far."""


def read_header(region: Region) -> Header:
    """The header of the GGUF in `region`. Raises MalformedModel."""
    for window in _WINDOWS:
        size = min(window, region.length)
        try:
            return _Parser(region.read(0, size), region.label, region.length).header()
        except _WindowTooSmall:
            if size == region.length:
                raise MalformedModel(region.label, f"ends at byte {size}, inside its header") from None
    raise MalformedModel(region.label, f"has a header of more than {_WINDOWS[-1]:,} bytes")


class _Parser:
    def __init__(self, window: bytes, label: str, length: int) -> None:
        self._window = window
        self._label = label
        self._length = length
        self._at = 0
        self._keeps = _KEPT_ITEMS

    def header(self) -> Header:
        if self._take(4) != MAGIC:
            raise self._bad("does not begin with GGUF")
        version = self._u32()
        if version not in _VERSIONS:
            swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
            reason = "a big-endian file" if swapped in _VERSIONS else "not 2 or 3"
            raise self._bad(f"has GGUF version {version}: {reason}")
        tensor_count = self._count(self._u64(), _MAX_TENSORS, "tensors", smallest=24)
        key_count = self._count(self._u64(), _MAX_KEYS, "keys", smallest=13)
        values: dict[str, Scalar | Array] = {}
        for _ in range(key_count):
            key = self._text(_MAX_KEY_BYTES, "key")
            if not key or key in values:
                raise self._bad(f"has the key {key!r} twice" if key else "has an empty key")
            values[key] = self._value(self._u32(), key)
        alignment = self._alignment(values)
        tensors = self._tensors(tensor_count, alignment)
        data_offset = -(-self._at // alignment) * alignment
        file_bytes = data_offset
        if tensors:
            file_bytes += tensors[-1].offset + tensors[-1].bytes
        if file_bytes > self._length and tensors:
            raise self._bad(f"ends at byte {self._length:,}, but its tensors reach to {file_bytes:,}")
        return Header(version, values, tensors, alignment, data_offset, file_bytes)

    def _alignment(self, values: dict[str, Scalar | Array]) -> int:
        alignment = values.get("general.alignment", _DEFAULT_ALIGNMENT)
        if type(alignment) is not int or not 1 <= alignment <= _MAX_ALIGNMENT or alignment & (alignment - 1):
            raise self._bad(f"general.alignment is {alignment!r}, not a power of two up to {_MAX_ALIGNMENT}")
        return alignment

    def _tensors(self, count: int, alignment: int) -> tuple[Tensor, ...]:
        tensors: list[Tensor] = []
        names: set[str] = set()
        expected = 0  # ggml wants the data of all tensors in order, padded, without gaps
        for _ in range(count):
            tensor = self._tensor()
            if tensor.name in names:
                raise self._bad(f"has the tensor {tensor.name!r} twice")
            if tensor.offset != expected:
                raise self._bad(f"tensor {tensor.name!r} is at offset {tensor.offset}, not {expected}")
            names.add(tensor.name)
            tensors.append(tensor)
            expected += -(-tensor.bytes // alignment) * alignment
        return tuple(tensors)

    def _tensor(self) -> Tensor:
        name = self._text(_MAX_TENSOR_NAME_BYTES, "tensor name")
        rank = self._u32()
        if not 1 <= rank <= _MAX_DIMENSIONS:
            raise self._bad(f"tensor {name!r} has {rank} dimensions, not 1 to {_MAX_DIMENSIONS}")
        dimensions = tuple(self._u64() for _ in range(rank))
        elements = 1
        for dimension in dimensions:
            elements *= dimension
            if not 1 <= elements <= _MAX_TENSOR_ELEMENTS:
                raise self._bad(f"tensor {name!r} has the impossible shape {dimensions}")
        number = self._u32()
        kind = TENSOR_TYPES.get(number)
        if kind is None:
            raise self._bad(f"tensor {name!r} has the unknown type {number}")
        if dimensions[0] % kind.elements:
            raise self._bad(f"tensor {name!r} has rows of {dimensions[0]}, not a multiple of {kind.elements}")
        size = elements // kind.elements * kind.bytes
        return Tensor(name, number, dimensions, elements, size, self._u64())

    def _value(self, kind: int, key: str) -> Scalar | Array:
        if kind == _ARRAY:
            return self._array(key)
        return self._scalar(kind, key)

    def _scalar(self, kind: int, key: str) -> Scalar:
        if kind == _STRING:
            return self._text(_MAX_STRING_BYTES, key)
        layout = _SCALARS.get(kind)
        if layout is None:
            raise self._bad(f"key {key!r} has the unknown type {kind}")
        (value,) = layout.unpack(self._take(layout.size))
        assert isinstance(value, int | float)
        return value

    def _array(self, key: str) -> Array:
        kind = self._u32()
        length = self._u64()
        if kind == _ARRAY:
            raise self._bad(f"key {key!r} is an array of arrays, which no loader reads")
        layout = _SCALARS.get(kind)
        if layout is None and kind != _STRING:
            raise self._bad(f"key {key!r} is an array of the unknown type {kind}")
        self._count(length, _MAX_ARRAY_ITEMS, f"items in {key!r}", smallest=layout.size if layout else 8)
        if length <= min(_KEPT_ARRAY_ITEMS, self._keeps):
            self._keeps -= length
            items = tuple(self._scalar(kind, key) for _ in range(length))
            if key in _UNIQUE and len(set(items)) < length - items.count(""):
                raise self._bad(f"has one text twice in {key!r}")
            return Array(length, items)
        if layout:
            self._skip(length * layout.size)
        else:
            self._skip_strings(length, key)
        return Array(length, None)

    def _skip_strings(self, count: int, key: str) -> None:
        window, at, end = self._window, self._at, len(self._window)
        read = _U64.unpack_from
        seen: set[bytes] = set()
        is_unique = key in _UNIQUE
        empty = 0  # llama.cpp gives each of them a name of its own
        try:
            for _ in range(count):
                (size,) = read(window, at)
                if size > _MAX_STRING_BYTES:
                    raise self._bad(
                        f"has a string of {size} bytes at {at}; at most {_MAX_STRING_BYTES} are read"
                    )
                if is_unique:
                    seen.add(window[at + 8 : at + 8 + size])
                    empty += not size
                at += 8 + size
        except struct.error:
            raise _WindowTooSmall from None
        if at > end:
            raise _WindowTooSmall
        if is_unique and len(seen - {b""}) < count - empty:
            raise self._bad(f"has one text twice in {key!r}")
        self._at = at

    def _text(self, limit: int, what: str) -> str:
        size = self._u64()
        if size > limit:
            raise self._bad(f"has a {what} of {size} bytes; at most {limit} are read")
        try:
            return self._take(size).decode()
        except UnicodeDecodeError:
            raise self._bad(f"has a {what} that is not UTF-8, before byte {self._at}") from None

    def _count(self, count: int, limit: int, what: str, *, smallest: int) -> int:
        """`count`, once it is under its limit and so many items could fit into the rest of the file."""
        if count > limit or count * smallest > self._length - self._at:
            raise self._bad(f"says it has {count} {what}, more than it can hold")
        return count

    def _u32(self) -> int:
        return int.from_bytes(self._take(4), "little")

    def _u64(self) -> int:
        return int.from_bytes(self._take(8), "little")

    def _take(self, size: int) -> bytes:
        begin = self._at
        self._skip(size)
        return self._window[begin : self._at]

    def _skip(self, size: int) -> None:
        if self._at + size > len(self._window):
            raise _WindowTooSmall
        self._at += size

    def _bad(self, problem: str) -> MalformedModel:
        return MalformedModel(self._label, problem)
