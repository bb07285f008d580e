"""The multilingual-e5 conversion: a small container against numpy, the real one against known vectors."""

import hashlib
import math
import os
import struct
from pathlib import Path

import numpy as np
import pytest

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read by the next import, which opens sockets without it

import onnxruntime
from tokenizers import Tokenizer

from models.e5 import convert
from models.errors import MalformedModel
from models.onnx import read_onnx

HIDDEN, LAYERS, HEADS, WIDE, VOCABULARY, POSITIONS, TYPES = 64, 2, 4, 128, 50, 16, 2
EPSILON = 1e-12


def _shapes() -> dict[str, tuple[int, ...]]:
    """Every tensor of the container; two-dimensional ones under a `.w` of a projection are 4-bit."""
    shapes: dict[str, tuple[int, ...]] = {
        "emb.word": (VOCABULARY, HIDDEN),
        "emb.pos": (POSITIONS, HIDDEN),
        "emb.type": (TYPES, HIDDEN),
        "emb.ln.w": (HIDDEN,),
        "emb.ln.b": (HIDDEN,),
    }
    for layer in range(LAYERS):
        for name, rows, columns in (
            ("q", HIDDEN, HIDDEN),
            ("k", HIDDEN, HIDDEN),
            ("v", HIDDEN, HIDDEN),
            ("ao", HIDDEN, HIDDEN),
            ("fi", WIDE, HIDDEN),
            ("fo", HIDDEN, WIDE),
        ):
            shapes |= {f"l{layer}.{name}.w": (rows, columns), f"l{layer}.{name}.b": (rows,)}
        for name in ("aln", "oln"):
            shapes |= {f"l{layer}.{name}.w": (HIDDEN,), f"l{layer}.{name}.b": (HIDDEN,)}
    return shapes


def _container() -> tuple[bytes, dict[str, np.ndarray]]:
    """A container with random weights, and the weights as floats."""
    random = np.random.default_rng(7)
    data: dict[str, bytes] = {}
    floats: dict[str, np.ndarray] = {}
    for name, shape in _shapes().items():
        if len(shape) == 2 and name not in ("emb.pos", "emb.type"):
            rows, columns = shape
            quants = random.integers(0, 16, (rows, columns // 32, 32), np.uint8)
            scales = random.uniform(0.01, 0.03, (rows, columns // 32)).astype(np.float16)
            blocks = np.empty((rows, columns // 32), np.dtype([("scale", "<f2"), ("quants", "u1", (16,))]))
            blocks["scale"] = scales
            blocks["quants"] = quants[..., :16] | quants[..., 16:] << 4
            data[name] = blocks.tobytes()
            floats[name] = ((quants.astype(np.float32) - 8) * scales[..., None].astype(np.float32)).reshape(
                shape
            )
        else:
            around = 1.0 if name.endswith("ln.w") else 0.0
            floats[name] = (around + random.normal(0, 0.1, shape)).astype(np.float32)
            data[name] = floats[name].tobytes()
    pieces = [b"<s>", b"</s>", b"token"]
    texts = b"".join(pieces)
    head = b"E5S1" + struct.pack(
        "<I7ifi", 1, HIDDEN, LAYERS, HEADS, WIDE, VOCABULARY, POSITIONS, TYPES, EPSILON, 32
    )
    head += struct.pack("<5iQ", len(pieces), 0, 2, 1, 3, len(texts))
    head += (
        bytes(4 * (len(pieces) + 1)) + bytes(4 * len(pieces)) + texts + struct.pack("<iI", 0, 5) + b"nmap!"
    )
    head += struct.pack("<i", len(data))
    size = len(head) + sum(2 + len(name) + 1 + 4 + 16 for name in data)
    body = b""
    for name, content in data.items():
        place = struct.pack("<BIQQ", 0, 1, size + len(body), len(content))
        head += struct.pack("<H", len(name)) + name.encode() + place
        body += content
    return head + body, floats


def _norm(x: np.ndarray, scale: np.ndarray, bias: np.ndarray) -> np.ndarray:
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + EPSILON) * scale + bias


def _gelu(x: np.ndarray) -> np.ndarray:
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def _encode(w: dict[str, np.ndarray], ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The same encoder in plain numpy; [batch, seq, hidden]."""
    x = w["emb.word"][ids] + w["emb.pos"][: ids.shape[1]] + w["emb.type"][0]
    x = _norm(x, w["emb.ln.w"], w["emb.ln.b"])
    for layer in range(LAYERS):

        def linear(name: str, value: np.ndarray, prefix: str = f"l{layer}.") -> np.ndarray:
            return value @ w[f"{prefix}{name}.w"].T + w[f"{prefix}{name}.b"]

        q, k, v = (linear(name, x).reshape(*ids.shape, HEADS, -1).transpose(0, 2, 1, 3) for name in "qkv")
        scores = (
            q @ k.transpose(0, 1, 3, 2) / math.sqrt(HIDDEN // HEADS) + np.where(mask, 0, -1e9)[:, None, None]
        )
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (weights / weights.sum(-1, keepdims=True)) @ v
        attended = linear("ao", mixed.transpose(0, 2, 1, 3).reshape(x.shape))
        x = _norm(x + attended, w[f"l{layer}.aln.w"], w[f"l{layer}.aln.b"])
        x = _norm(x + linear("fo", _gelu(linear("fi", x))), w[f"l{layer}.oln.w"], w[f"l{layer}.oln.b"])
    return x


def _session(model: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def test_a_converted_model_computes_what_its_weights_say(tmp_path: Path) -> None:
    content, weights = _container()
    (tmp_path / "small.bin").write_bytes(content)
    model = tmp_path / "small.onnx"
    model.write_bytes(b"".join(convert(tmp_path / "small.bin")))
    assert read_onnx(model).node_count == 10 + LAYERS * 30
    ids = np.array([[5, 6, 7, 8, 9], [11, 12, 13, 1, 1]], np.int64)
    mask = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], np.int64)
    (found,) = _session(model).run(None, {"input_ids": ids, "attention_mask": mask})
    expected = _encode(weights, ids, mask)
    kept = mask.astype(bool)
    a, b = found[kept], expected[kept]
    cosines = (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
    assert cosines.min() > 0.999  # onnxruntime multiplies 4-bit weights in int8


def test_conversion_is_deterministic(tmp_path: Path) -> None:
    (tmp_path / "small.bin").write_bytes(_container()[0])
    digests = {hashlib.sha256(b"".join(convert(tmp_path / "small.bin"))).hexdigest() for _ in range(2)}
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda content: b"E5S2" + content[4:], "does not begin with E5S1"),
        (lambda content: content[:-1], "ends at byte"),
        (lambda content: content[:8] + struct.pack("<i", -1) + content[12:], "size outside"),
        (lambda content: content.replace(b"l1.fo.w", b"l1.xx.w"), "'l1.fo.w' is missing"),
        (lambda content: content[:40] + struct.pack("<i", 64) + content[44:], "blocks of 64"),
    ],
)
def test_a_damaged_container_is_refused(change, words: str, tmp_path: Path) -> None:
    (tmp_path / "small.bin").write_bytes(change(_container()[0]))
    with pytest.raises(MalformedModel, match=words):
        list(convert(tmp_path / "small.bin"))


@pytest.fixture(scope="module")
def embed(real_model):
    session = _session(real_model("multilingual-e5-small", "model.onnx"))
    tokenizer = Tokenizer.from_file(str(real_model("multilingual-e5-small", "tokenizer.json")))

    def _embed(text: str) -> np.ndarray:
        ids = np.array([tokenizer.encode(text).ids], np.int64)
        (hidden,) = session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})
        vector = hidden[0].mean(0)
        return vector / np.linalg.norm(vector)

    return _embed


# First components of the fp32 model's vectors; the int8 products of the 4-bit one differ by up to 0.002.
KNOWN = {
    "query: how much protein should a female eat": [0.03206, -0.04449, -0.06024, -0.04466, 0.12043],
    "passage: The capital of France is Paris.": [0.00504, -0.01939, 0.01886, -0.08707, 0.07235],
    "query: 南瓜的家常做法": [0.04782, -0.03329, -0.04639, -0.04591, 0.10507],
    "passage: 法国的首都是巴黎。": [0.04608, 0.00153, 0.0245, -0.05795, 0.08366],
}


@pytest.mark.parametrize("text", KNOWN)
def test_the_real_model_gives_the_known_vectors(text: str, embed) -> None:
    assert embed(text)[:5] == pytest.approx(KNOWN[text], abs=0.003)


def test_a_translation_is_nearer_than_another_topic(embed) -> None:
    _, english, other, chinese = (embed(text) for text in KNOWN)
    assert english @ chinese > other @ chinese
