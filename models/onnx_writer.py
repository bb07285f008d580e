"""Writes an ONNX model: nodes, initializers and typed inputs and outputs, as a stream of bytes.

Field numbers from onnx.proto3 of ONNX; fields are written in ascending order of number, repeated numbers
unpacked, attributes sorted by name, so that equal graphs give equal bytes. Large initializers are made
while they are written and never held whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.protobuf import bytes_field, bytes_prefix, float_field, integer_field, text_field

FLOAT, UINT8, INT64, INT4 = 1, 2, 7, 22  # TensorProto.DataType

_ELEMENT_TYPES = {"float32": FLOAT, "uint8": UINT8, "int64": INT64}
_ATTRIBUTE_FLOAT, _ATTRIBUTE_INT, _ATTRIBUTE_INTS = 1, 2, 7  # AttributeProto.AttributeType

Dimension = int | str


class Initializer(NamedTuple):
    """A tensor's fields before its data, the data's size in bytes, and what makes the data."""

    head: bytes
    size: int
    content: Callable[[], Iterable[bytes]]

    @property
    def message_size(self) -> int:
        return len(self.head) + len(bytes_prefix(9, self.size)) + self.size


class GraphWriter:
    """Collects a graph; names of values nobody named are t1, t2, … in order of creation."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._nodes: list[bytes] = []
        self._initializers: list[Initializer] = []
        self._inputs: list[bytes] = []
        self._outputs: list[bytes] = []
        self._unnamed = 0

    def constant(self, name: str, value: NDArray[Any]) -> str:
        """An initializer of the array's own type and shape; the name to use it by."""
        data = np.ascontiguousarray(value).tobytes()
        return self.streamed(name, _ELEMENT_TYPES[value.dtype.name], value.shape, len(data), lambda: (data,))

    def streamed(
        self, name: str, element: int, shape: Sequence[int], size: int, content: Callable[[], Iterable[bytes]]
    ) -> str:
        """An initializer whose `size` bytes `content` makes when the model is written."""
        head = b"".join(integer_field(1, length) for length in shape)
        head += integer_field(2, element) + text_field(8, name)
        self._initializers.append(Initializer(head, size, content))
        return name

    def node(
        self,
        operator: str,
        inputs: Sequence[str],
        *,
        output: str | None = None,
        domain: str | None = "",
        **attributes: int | float | Sequence[int],
    ) -> str:
        """Adds a node with one output; the output's name.

        Domain None leaves the field out, which to a reader is the same as "".
        """
        if output is None:
            self._unnamed += 1
            output = f"t{self._unnamed}"
        node = (
            b"".join(text_field(1, name) for name in inputs) + text_field(2, output) + text_field(4, operator)
        )
        node += b"".join(
            bytes_field(5, _attribute(name, value)) for name, value in sorted(attributes.items())
        )
        self._nodes.append(node if domain is None else node + text_field(7, domain))
        return output

    def input(self, name: str, element: int, shape: Sequence[Dimension]) -> None:
        self._inputs.append(_value_info(name, element, shape))

    def output(self, name: str, element: int, shape: Sequence[Dimension]) -> None:
        self._outputs.append(_value_info(name, element, shape))

    def model(self, ir_version: int, opsets: dict[str, int]) -> Iterator[bytes]:
        """The whole file, in pieces."""
        opening = b"".join(bytes_field(1, node) for node in self._nodes) + text_field(2, self._name)
        closing = b"".join(bytes_field(11, value) for value in self._inputs)
        closing += b"".join(bytes_field(12, value) for value in self._outputs)
        size = len(opening) + len(closing)
        size += sum(
            len(bytes_prefix(5, tensor.message_size)) + tensor.message_size for tensor in self._initializers
        )
        yield integer_field(1, ir_version) + bytes_prefix(7, size) + opening
        for tensor in self._initializers:
            yield bytes_prefix(5, tensor.message_size) + tensor.head + bytes_prefix(9, tensor.size)
            yield from tensor.content()
        yield closing
        for domain, version in opsets.items():
            yield bytes_field(8, text_field(1, domain) + integer_field(2, version))


def _attribute(name: str, value: int | float | Sequence[int]) -> bytes:
    if isinstance(value, float):
        return text_field(1, name) + float_field(2, value) + integer_field(20, _ATTRIBUTE_FLOAT)
    if isinstance(value, int):
        return text_field(1, name) + integer_field(3, value) + integer_field(20, _ATTRIBUTE_INT)
    numbers = b"".join(integer_field(8, number) for number in value)
    return text_field(1, name) + numbers + integer_field(20, _ATTRIBUTE_INTS)


def _value_info(name: str, element: int, shape: Sequence[Dimension]) -> bytes:
    dimensions = b"".join(
        bytes_field(1, integer_field(1, length) if isinstance(length, int) else text_field(2, length))
        for length in shape
    )
    tensor_type = integer_field(1, element) + bytes_field(2, dimensions)
    return text_field(1, name) + bytes_field(2, bytes_field(1, tensor_type))
