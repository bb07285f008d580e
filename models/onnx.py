"""Preflight of ONNX files: the graph's surface, and a refusal of everything that reaches outside the file.

Field numbers from onnx.proto3. Walks every node, attribute, subgraph, function and tensor without reading
tensor data. Refused: external data in any tensor, operators that load other files, operators of domains
onnxruntime does not bring, training sections, tensors whose data is not in the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from pathlib import Path

import msgspec

from models.errors import MalformedModel
from models.protobuf import BYTES, Field, WireReader
from models.region import Region

_MAX_BYTES = (1 << 31) - 1  # protobuf's own limit for one message
_MAX_DEPTH = 16  # subgraphs inside subgraphs
_MAX_NODES = 50_000
_MAX_RANK = 16
_MAX_ELEMENTS = 1 << 40
_MAX_VALUES = 256  # of inputs and of outputs
_MAX_OPSETS = 64
_MAX_TENSORS = 100_000
_MAX_NAME_BYTES = 1_024
_IR_VERSIONS = range(3, 15)

_DOMAINS = frozenset(
    {
        "",
        "ai.onnx",
        "ai.onnx.ml",
        "ai.onnx.preview",
        "com.microsoft",
        "com.microsoft.nchwc",
        "com.microsoft.experimental",
    }
)
_REACHING_OPERATORS = frozenset({"EPContext", "PyOp", "PyCustomOp"})  # they name other files or code

# TensorProto.DataType: name, bits per element; a string has no fixed size
_ELEMENTS: dict[int, tuple[str, int]] = {
    1: ("float", 32),
    2: ("uint8", 8),
    3: ("int8", 8),
    4: ("uint16", 16),
    5: ("int16", 16),
    6: ("int32", 32),
    7: ("int64", 64),
    8: ("string", 0),
    9: ("bool", 8),
    10: ("float16", 16),
    11: ("double", 64),
    12: ("uint32", 32),
    13: ("uint64", 64),
    14: ("complex64", 64),
    15: ("complex128", 128),
    16: ("bfloat16", 16),
    17: ("float8e4m3fn", 8),
    18: ("float8e4m3fnuz", 8),
    19: ("float8e5m2", 8),
    20: ("float8e5m2fnuz", 8),
    21: ("uint4", 4),
    22: ("int4", 4),
    23: ("float4e2m1", 4),
}


class ValueFacts(msgspec.Struct, frozen=True):
    """A graph's input or output. A dimension is a length, a name, or None where unstated."""

    name: str
    element: str
    shape: tuple[int | str | None, ...]


class OnnxFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What an ONNX file says of itself. `inputs` leaves out those that are weights with a default."""

    ir_version: int
    producer: str
    opsets: tuple[tuple[str, int], ...]
    inputs: tuple[ValueFacts, ...]
    outputs: tuple[ValueFacts, ...]
    node_count: int
    tensor_count: int
    tensor_bytes: int


def read_onnx(path: Path, start: int = 0, length: int | None = None) -> OnnxFacts:
    """Facts of the ONNX model in `length` bytes of `path` from offset `start`.

    Raises MalformedModel naming what is wrong; OSError when the file cannot be read.
    """
    with Region(path, start, length) as region:
        if not 0 < region.length <= _MAX_BYTES:
            raise MalformedModel(
                region.label, f"has {region.length:,} bytes; an ONNX file has 1 to {_MAX_BYTES:,}"
            )
        return _Walk(WireReader(region)).model()


class _Walk:
    def __init__(self, reader: WireReader) -> None:
        self._reader = reader
        self._nodes = 0
        self._tensors = 0
        self._tensor_bytes = 0
        self._domains: set[str] = set()
        self._inputs: list[ValueFacts] = []
        self._outputs: list[ValueFacts] = []
        self._weights: set[str] = set()

    def model(self) -> OnnxFacts:
        ir_version, producer = 0, ""
        opsets: list[tuple[str, int]] = []
        graphs: list[Field] = []
        functions: list[Field] = []
        for field in self._reader.fields(0, self._reader.length):
            match field.number:
                case 1:
                    ir_version = self._reader.integer(field)
                case 2:
                    producer = self._text(field)
                case 7:
                    graphs.append(field)
                case 8:
                    opsets.append(self._opset(field))
                case 20:
                    raise self._bad("carries a training section")
                case 25:
                    functions.append(field)
        if ir_version not in _IR_VERSIONS:
            raise self._bad(
                f"has IR version {ir_version}, not {_IR_VERSIONS.start} to {_IR_VERSIONS.stop - 1}"
            )
        if len(graphs) != 1:
            raise self._bad(f"has {len(graphs)} graphs, not one")
        if not 1 <= len(opsets) <= _MAX_OPSETS:
            raise self._bad(f"names {len(opsets)} operator sets, not 1 to {_MAX_OPSETS}")
        for function in functions:
            self._declare(function)
        for function in functions:
            self._function(function)
        self._graph(graphs[0], 0)
        return OnnxFacts(
            ir_version=ir_version,
            producer=producer,
            opsets=tuple(opsets),
            inputs=tuple(value for value in self._inputs if value.name not in self._weights),
            outputs=tuple(self._outputs),
            node_count=self._nodes,
            tensor_count=self._tensors,
            tensor_bytes=self._tensor_bytes,
        )

    def _opset(self, message: Field) -> tuple[str, int]:
        domain, version = "", 0
        for field in self._fields(message):
            if field.number == 1:
                domain = self._text(field)
            elif field.number == 2:
                version = self._reader.integer(field)
        return domain, version

    def _declare(self, function: Field) -> None:
        """Lets nodes call the model's own functions by their domain."""
        for field in self._fields(function):
            if field.number == 10:
                self._domains.add(self._text(field))

    def _function(self, function: Field) -> None:
        for field in self._fields(function):
            if field.number == 7:
                self._node(field, 1)
            elif field.number == 11:
                self._attribute(field, 1)

    def _graph(self, graph: Field, depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise self._bad(f"nests graphs deeper than {_MAX_DEPTH}")
        for field in self._fields(graph):
            match field.number:
                case 1:
                    self._node(field, depth)
                case 5:
                    name = self._tensor(field)
                    if depth == 0:
                        self._weights.add(name)
                case 15:
                    self._sparse(field)
                case 11 if depth == 0:
                    self._inputs.append(self._value(field, len(self._inputs)))
                case 12 if depth == 0:
                    self._outputs.append(self._value(field, len(self._outputs)))

    def _node(self, node: Field, depth: int) -> None:
        self._nodes += 1
        if self._nodes > _MAX_NODES:
            raise self._bad(f"has more than {_MAX_NODES:,} nodes")
        operator, domain = "", ""
        for field in self._fields(node):
            if field.number == 4:
                operator = self._text(field)
            elif field.number == 5:
                self._attribute(field, depth)
            elif field.number == 7:
                domain = self._text(field)
        if operator in _REACHING_OPERATORS:
            raise self._bad(f"uses the operator {operator}, which loads what is outside the file")
        if domain not in _DOMAINS and domain not in self._domains:
            raise self._bad(f"uses the operator {operator} of {domain!r}, which onnxruntime does not bring")

    def _attribute(self, attribute: Field, depth: int) -> None:
        for field in self._fields(attribute):
            match field.number:
                case 5 | 10:
                    self._tensor(field)
                case 6 | 11:
                    self._graph(field, depth + 1)
                case 22 | 23:
                    self._sparse(field)

    def _sparse(self, sparse: Field) -> None:
        for field in self._fields(sparse):
            if field.number in (1, 2):
                self._tensor(field)

    def _tensor(self, tensor: Field) -> str:
        """Checks that the tensor's data is here and as large as its shape says; its name."""
        name, element = "", 0
        shape: list[int] = []
        raw: int | None = None
        typed = 0
        for field in self._fields(tensor):
            match field.number:
                case 1:
                    shape += self._reader.integers(field, _MAX_RANK)
                case 2:
                    element = self._reader.integer(field)
                case 4 | 5 | 6 | 7 | 10 | 11:
                    typed += max(field.end - field.begin, 1)
                case 8:
                    name = self._text(field)
                case 9 if raw is None:
                    raw = field.end - field.begin
                case 9:
                    raise self._bad(f"tensor {name!r} has its data twice")
                case 13:
                    raise self._bad(f"tensor {name!r} keeps its data in another file")
                case 14 if field.value or field.wire:
                    raise self._bad(f"tensor {name!r} keeps its data in another file")
        self._count_tensor(name, element, shape, raw, typed)
        return name

    def _count_tensor(self, name: str, element: int, shape: list[int], raw: int | None, typed: int) -> None:
        kind = _ELEMENTS.get(element)
        if kind is None:
            raise self._bad(f"tensor {name!r} has the unknown element type {element}")
        if len(shape) > _MAX_RANK or any(not 0 <= length <= _MAX_ELEMENTS for length in shape):
            raise self._bad(f"tensor {name!r} has the impossible shape {shape[:_MAX_RANK]}")
        elements = prod(shape)
        if elements > _MAX_ELEMENTS:
            raise self._bad(f"tensor {name!r} has the impossible shape {shape}")
        bits = kind[1]
        if raw is not None and (raw != (elements * bits + 7) // 8 or typed):
            raise self._bad(f"tensor {name!r} of shape {shape} has {raw:,} bytes of {kind[0]} data")
        # Typed data takes at least a byte per element, two to a byte for the 4-bit types.
        if raw is None and elements > typed * 2:
            raise self._bad(f"tensor {name!r} of shape {shape} has no data for it in the file")
        self._tensors += 1
        if self._tensors > _MAX_TENSORS:
            raise self._bad(f"has more than {_MAX_TENSORS:,} tensors")
        self._tensor_bytes += raw if raw is not None else typed

    def _value(self, value: Field, count: int) -> ValueFacts:
        if count >= _MAX_VALUES:
            raise self._bad(f"has more than {_MAX_VALUES} inputs or outputs")
        name, element = "", "none"
        shape: tuple[int | str | None, ...] = ()
        for field in self._fields(value):
            if field.number == 1:
                name = self._text(field)
            elif field.number == 2:
                for kind in self._fields(field):
                    if kind.number == 1:
                        element, shape = self._tensor_type(kind)
        return ValueFacts(name, element, shape)

    def _tensor_type(self, message: Field) -> tuple[str, tuple[int | str | None, ...]]:
        element = 0
        shape: list[int | str | None] = []
        for field in self._fields(message):
            if field.number == 1:
                element = self._reader.integer(field)
            elif field.number == 2:
                shape = [self._dimension(length) for length in self._fields(field) if length.number == 1]
        if element not in _ELEMENTS or len(shape) > _MAX_RANK:
            raise self._bad(f"has an input or output of element type {element} with {len(shape)} dimensions")
        return _ELEMENTS[element][0], tuple(shape)

    def _dimension(self, message: Field) -> int | str | None:
        dimension: int | str | None = None
        for field in self._fields(message):
            if field.number == 1:
                dimension = self._reader.integer(field)
            elif field.number == 2:
                dimension = self._text(field)
        return dimension

    def _fields(self, message: Field) -> Iterator[Field]:
        if message.wire != BYTES:
            raise self._bad(f"has no message at byte {message.begin}, where one belongs")
        return self._reader.fields(message.begin, message.end)

    def _text(self, field: Field) -> str:
        return self._reader.text(field, _MAX_NAME_BYTES)

    def _bad(self, problem: str) -> MalformedModel:
        return self._reader.bad(problem)
