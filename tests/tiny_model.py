"""A whole llama in a few hundred kilobytes: random weights, a vocabulary of bytes, and its GGUF file.

What it says is nonsense, but it loads and answers as a real model does, in milliseconds. The parts are kept
apart (`keys`, `tensors`) so that tests can change one before the file is written.
"""

from __future__ import annotations

import hashlib
import struct
import time
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from models.manifest import Manifest, ModelFile
from models.store import Installed, Store

Key = tuple[int, Any]  # the format's type number, and the value; an array is (9, (type, items))
Weights = npt.NDArray[np.float32]

U32, F32, BOOL, STRING, ARRAY, I32 = 4, 6, 7, 8, 9, 5
_LAYOUTS = {U32: "<I", F32: "<f", BOOL: "<?", I32: "<i"}
ALIGNMENT = 32

WIDTH, HEADS, HIDDEN, CONTEXT = 64, 4, 128, 512
SPECIALS = ("<unk>", "<s>", "</s>")
SPACE = "\u2581"  # how sentencepiece writes one
VOCABULARY = len(SPECIALS) + 256 + len(SPACE)
NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6  # llama.cpp's token types
TEMPLATE = "{% for message in messages %}{{ message.content }}\n{% endfor %}"


def keys(name: str = "tiny", blocks: int = 1) -> dict[str, Key]:
    """The model's key-values; its vocabulary has three control tokens and one token a byte."""
    tokens = [*SPECIALS, *(f"<0x{byte:02X}>" for byte in range(256)), SPACE]
    kinds = [UNKNOWN, CONTROL, CONTROL, *([BYTE] * 256), NORMAL]
    return {
        "general.architecture": (STRING, "llama"),
        "general.type": (STRING, "model"),
        "general.name": (STRING, name),
        "general.license": (STRING, "mit"),
        "general.file_type": (U32, 0),
        "llama.context_length": (U32, CONTEXT),
        "llama.embedding_length": (U32, WIDTH),
        "llama.block_count": (U32, blocks),
        "llama.feed_forward_length": (U32, HIDDEN),
        "llama.attention.head_count": (U32, HEADS),
        "llama.attention.head_count_kv": (U32, HEADS),
        "llama.attention.layer_norm_rms_epsilon": (F32, 1e-5),
        "llama.rope.dimension_count": (U32, WIDTH // HEADS),
        "llama.vocab_size": (U32, VOCABULARY),
        "tokenizer.ggml.model": (STRING, "llama"),
        "tokenizer.ggml.pre": (STRING, "default"),
        "tokenizer.ggml.tokens": (ARRAY, (STRING, tokens)),
        "tokenizer.ggml.scores": (ARRAY, (F32, [0.0] * VOCABULARY)),
        "tokenizer.ggml.token_type": (ARRAY, (I32, kinds)),
        "tokenizer.ggml.bos_token_id": (U32, 1),
        "tokenizer.ggml.eos_token_id": (U32, 2),
        "tokenizer.ggml.add_bos_token": (BOOL, True),
        "tokenizer.chat_template": (STRING, TEMPLATE),
    }


def tensors(seed: int = 1, blocks: int = 1) -> dict[str, Weights]:
    """Weights by name, each in numpy's order: the reverse of the file's dimensions."""
    random = np.random.default_rng(seed)

    def matrix(rows: int, columns: int) -> Weights:
        return (random.standard_normal((rows, columns)) / np.sqrt(columns)).astype(np.float32)

    made = {"token_embd.weight": matrix(VOCABULARY, WIDTH)}
    for block in range(blocks):
        made |= {
            f"blk.{block}.attn_norm.weight": np.ones(WIDTH, np.float32),
            f"blk.{block}.attn_q.weight": matrix(WIDTH, WIDTH),
            f"blk.{block}.attn_k.weight": matrix(WIDTH, WIDTH),
            f"blk.{block}.attn_v.weight": matrix(WIDTH, WIDTH),
            f"blk.{block}.attn_output.weight": matrix(WIDTH, WIDTH),
            f"blk.{block}.ffn_norm.weight": np.ones(WIDTH, np.float32),
            f"blk.{block}.ffn_gate.weight": matrix(HIDDEN, WIDTH),
            f"blk.{block}.ffn_up.weight": matrix(HIDDEN, WIDTH),
            f"blk.{block}.ffn_down.weight": matrix(WIDTH, HIDDEN),
        }
    return made | {
        "output_norm.weight": np.ones(WIDTH, np.float32),
        "output.weight": matrix(VOCABULARY, WIDTH),
    }


def gguf(keys: Mapping[str, Key], tensors: Mapping[str, Weights]) -> bytes:
    """The file: header, key-values, tensor descriptions, tensor data (all float32)."""
    header = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys))
    for key, (kind, value) in keys.items():
        header += _text(key) + struct.pack("<I", kind) + _value(kind, value)
    data = b""
    for name, weights in tensors.items():
        header += _text(name) + struct.pack("<I", weights.ndim)
        header += b"".join(struct.pack("<Q", length) for length in reversed(weights.shape))
        header += struct.pack("<IQ", 0, len(data))
        data += _padded(np.ascontiguousarray(weights, "<f4").tobytes())
    return _padded(header) + data


def tiny_gguf(seed: int = 1, name: str = "tiny", blocks: int = 1) -> bytes:
    return gguf(keys(name, blocks), tensors(seed, blocks))


def install(store: Store, name: str, content: bytes, *, origin: str = "catalogue") -> Installed:
    """Puts the file into the store as it is, unchecked: as if it had been damaged after it was checked."""
    digest = hashlib.sha256(content).hexdigest()
    store.blob(digest).write_bytes(content)
    manifest = Manifest(
        name=name,
        role="chat",
        format="gguf",
        files=(ModelFile("model.gguf", len(content), digest),),
        licence="mit",
        context_length=CONTEXT,
    )
    installed = Installed(manifest, origin, time.time())  # type: ignore[arg-type]
    (store.root / "installed" / f"{name}.json").write_bytes(msgspec.json.encode(installed))
    return installed


def _padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % ALIGNMENT)


def _text(value: str) -> bytes:
    encoded = value.encode()
    return struct.pack("<Q", len(encoded)) + encoded


def _value(kind: int, value: Any) -> bytes:
    if kind == STRING:
        return _text(value)
    if kind == ARRAY:
        item_kind, items = value
        return struct.pack("<IQ", item_kind, len(items)) + b"".join(_value(item_kind, item) for item in items)
    return struct.pack(_LAYOUTS[kind], value)
