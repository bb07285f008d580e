"""Small handmade GGUF and ONNX files, manifests around them, and the store with the real models."""

import hashlib
import os
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
import pytest

from models.ggml import TENSOR_TYPES
from models.manifest import Encoding, Manifest, ModelFile, Pooling
from models.onnx_writer import FLOAT, INT64, GraphWriter
from models.store import Store

GgufValue = tuple[int, Any]  # the format's type number, and the value; an array is (9, (type, items))
GgufTensor = tuple[str, int, tuple[int, ...]]  # name, ggml type, dimensions

CHAT_KEYS: dict[str, GgufValue] = {
    "general.architecture": (8, "llama"),
    "general.name": (8, "Handmade"),
    "general.license": (8, "mit"),
    "general.languages": (9, (8, ["en", "zh"])),
    "general.file_type": (4, 3),
    "llama.context_length": (4, 64),
    "llama.embedding_length": (4, 32),
    "llama.block_count": (4, 1),
    "llama.attention.head_count": (4, 4),
    "llama.attention.head_count_kv": (9, (5, [2, 1])),
    "tokenizer.ggml.model": (8, "gpt2"),
    "tokenizer.ggml.tokens": (9, (8, [f"t{number}" for number in range(1_500)])),
    "tokenizer.ggml.scores": (9, (6, [0.5] * 1_500)),
    "tokenizer.ggml.eos_token_id": (4, 2),
    "tokenizer.ggml.add_bos_token": (7, True),
    "tokenizer.chat_template": (8, "{{ messages }}"),
}
CHAT_TENSORS: tuple[GgufTensor, ...] = (("token_embd.weight", 2, (32, 3)), ("output_norm.weight", 0, (5,)))
_LAYOUTS = {0: "<B", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}


def _text(value: str | bytes) -> bytes:
    encoded = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(encoded)) + encoded


def _value(kind: int, value: Any) -> bytes:
    if kind == 8:
        return _text(value)
    if kind == 9:
        item_kind, items = value
        return struct.pack("<IQ", item_kind, len(items)) + b"".join(_value(item_kind, item) for item in items)
    return struct.pack(_LAYOUTS[kind], value)


def _gguf(
    keys: Mapping[str, GgufValue] = CHAT_KEYS,
    tensors: Sequence[GgufTensor] = CHAT_TENSORS,
    *,
    version: int = 3,
    alignment: int = 32,
    extra: bytes = b"",
    offsets: Sequence[int] | None = None,
    counts: tuple[int, int] | None = None,
) -> bytes:
    """A GGUF file.

    `extra` follows the last key; `offsets` and `counts` (tensors, keys) override the right ones.
    """
    tensor_count, key_count = counts or (len(tensors), len(keys))
    header = b"GGUF" + struct.pack("<IQQ", version, tensor_count, key_count)
    for key, (kind, value) in keys.items():
        header += _text(key) + struct.pack("<I", kind) + _value(kind, value)
    header += extra
    data = b""
    for index, (name, kind, dimensions) in enumerate(tensors):
        offset = len(data) if offsets is None else offsets[index]
        header += _text(name) + struct.pack("<I", len(dimensions))
        header += b"".join(struct.pack("<Q", length) for length in dimensions)
        header += struct.pack("<IQ", kind, offset)
        block = TENSOR_TYPES.get(kind)
        elements = int(np.prod(dimensions)) if max(dimensions, default=0) < 1 << 20 else 0
        size = elements // block.elements * block.bytes if block else 0
        data += bytes(-(-size // alignment) * alignment)
    return header + bytes(-len(header) % alignment) + data


def _onnx(role: str = "embed", size: int = 8) -> bytes:
    """A valid model: token ids become vectors, or for `rerank` one logit."""
    graph = GraphWriter("handmade")
    table = graph.constant("table", np.arange(16 * size, dtype=np.float32).reshape(16, size))
    vectors = graph.node("Gather", [table, "input_ids"], output="last_hidden_state")
    for name in ("input_ids", "attention_mask"):
        graph.input(name, INT64, ["batch", "seq"])
    if role == "embed":
        graph.output(vectors, FLOAT, ["batch", "seq", size])
    else:
        axes = graph.constant("axes", np.array([1], np.int64))
        graph.node(
            "ReduceSum", [graph.node("ReduceMax", [vectors], axes=[2], keepdims=0), axes], output="logits"
        )
        graph.output("logits", FLOAT, ["batch", 1])
    return b"".join(graph.model(8, {"": 13}))


TOKENIZER = (
    b'{"version":"1.0","padding":{"pad_id":3},"model":{"type":"WordLevel","vocab":{},"unk_token":"?"}}'
)


def _file(name: str, content: bytes) -> ModelFile:
    return ModelFile(name, len(content), hashlib.sha256(content).hexdigest())


@pytest.fixture(scope="session")
def build_gguf() -> Callable[..., bytes]:
    return _gguf


@pytest.fixture(scope="session")
def build_onnx() -> Callable[..., bytes]:
    return _onnx


@pytest.fixture(scope="session")
def chat_keys() -> dict[str, GgufValue]:
    return CHAT_KEYS


@pytest.fixture(scope="session")
def tokenizer_json() -> bytes:
    return TOKENIZER


@pytest.fixture(scope="session")
def describe_file() -> Callable[[str, bytes], ModelFile]:
    return _file


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture(scope="session")
def chat_content() -> bytes:
    return _gguf()


@pytest.fixture(scope="session")
def chat(chat_content: bytes) -> Manifest:
    """A chat model without sources, made of `chat_content`."""
    files = (_file("model.gguf", chat_content),)
    return Manifest(
        name="handmade", role="chat", format="gguf", files=files, licence="MIT", context_length=64
    )


@pytest.fixture(scope="session")
def embedder() -> Manifest:
    return Manifest(
        name="handmade-embed",
        role="embed",
        format="onnx",
        files=(_file("model.onnx", _onnx()), _file("tokenizer.json", TOKENIZER)),
        licence="MIT",
        context_length=16,
        encoding=Encoding(16, 3, ("input_ids", "attention_mask"), "last_hidden_state"),
        pooling=Pooling("mean", 8),
    )


@pytest.fixture
def stick(tmp_path: Path, chat_content: bytes) -> Path:
    """A directory laid out as a pack directory that holds both handmade models."""
    files = {
        "handmade/model.gguf": chat_content,
        "handmade-embed/model.onnx": _onnx(),
        "handmade-embed/tokenizer.json": TOKENIZER,
    }
    for name, content in files.items():
        path = tmp_path / "stick" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "stick"


@pytest.fixture(scope="session")
def real_store() -> Store:
    """The store that holds the pulled models: $HEARTH_TEST_MODELS, or the user's own."""
    stated = os.environ.get("HEARTH_TEST_MODELS")
    root = Path(stated) if stated else Path(platformdirs.user_data_dir("hearth")) / "models"
    if not (root / "installed").is_dir():
        pytest.skip(f"no models in {root}; run: hearth models pull --pack starter")
    return Store(root)


@pytest.fixture(scope="session")
def real_model(real_store: Store) -> Callable[[str, str], Path]:
    """The path of a pulled model's file; skips, saying so, when the model is absent."""

    def find(name: str, file: str) -> Path:
        if name not in {model.name for model in real_store.list()}:
            pytest.skip(f"{name} is not in {real_store.root}; run: hearth models pull {name}")
        return real_store.path(name, file)

    return find
