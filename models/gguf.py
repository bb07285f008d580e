"""Preflight of GGUF files: what a model file says of itself, before a native library sees it.

The header is read by `gguf_reader`; here its keys get their meaning, their types and their bounds. Tensor
data is never read.
"""

from __future__ import annotations

import math
from pathlib import Path

import msgspec

from models.errors import MalformedModel
from models.ggml import FILE_TYPES, TENSOR_TYPES
from models.gguf_reader import MAGIC, Array, Header, read_header
from models.region import Region

_MAX_BLOCKS = 512  # llama.cpp's LLAMA_MAX_LAYERS
_MAX_EXPERTS = 1024  # its LLAMA_MAX_EXPERTS
_MAX_COUNT = 1 << 31  # no size of a real model is near it, and every native int holds less


class GgufFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a GGUF header says. Token counts in tokens, sizes in bytes, ids as token ids; None: not stated.

    `head_count_kv` of models that vary it by layer is the largest. `key_length` and `value_length` are
    per head, as stated or embedding_length / head_count. `tensor_bytes` is the weights' size,
    `file_bytes` where the last tensor ends. `split_count` above 1 marks one part of a split model.
    `pooling` is set by embedding models only.
    """

    version: int
    architecture: str
    type: str
    name: str
    licence: str
    languages: tuple[str, ...]
    context_length: int
    embedding_length: int
    block_count: int
    head_count: int
    head_count_kv: int
    key_length: int
    value_length: int
    vocab_size: int
    tokenizer_model: str
    tokenizer_pre: str
    chat_template: str | None
    bos_id: int | None
    eos_id: int | None
    add_bos: bool | None
    quantization: str
    parameter_count: int
    tensor_count: int
    tensor_bytes: int
    file_bytes: int
    data_offset: int
    alignment: int
    split_count: int
    pooling: int | None


def is_gguf(path: Path) -> bool:
    """Whether the file begins like a GGUF. Raises MalformedModel for anything but a regular file."""
    with Region(path) as region:
        return region.length >= len(MAGIC) and region.read(0, len(MAGIC)) == MAGIC


def read_gguf(path: Path, start: int = 0, length: int | None = None) -> GgufFacts:
    """Facts of the GGUF in `length` bytes of `path` from offset `start`.

    Raises MalformedModel naming what is wrong; OSError when the file cannot be read.
    """
    with Region(path, start, length) as region:
        return _facts(_Values(read_header(region), region.label))


def _facts(values: _Values) -> GgufFacts:
    header = values.header
    architecture = values.text("general.architecture")
    if not architecture:
        raise values.bad("general.architecture", "is missing")
    _require_plausible(values, architecture)
    embedding_length = values.count(f"{architecture}.embedding_length")
    head_count = values.count(f"{architecture}.attention.head_count")
    head_length = embedding_length // head_count if head_count else 0
    return GgufFacts(
        version=header.version,
        architecture=architecture,
        type=values.text("general.type"),
        name=values.text("general.name"),
        licence=values.text("general.license"),
        languages=values.texts("general.languages"),
        context_length=values.count(f"{architecture}.context_length"),
        embedding_length=embedding_length,
        block_count=values.count(f"{architecture}.block_count"),
        head_count=head_count,
        head_count_kv=values.count(f"{architecture}.attention.head_count_kv") or head_count,
        key_length=values.count(f"{architecture}.attention.key_length") or head_length,
        value_length=values.count(f"{architecture}.attention.value_length") or head_length,
        vocab_size=values.length("tokenizer.ggml.tokens") or values.count(f"{architecture}.vocab_size"),
        tokenizer_model=values.text("tokenizer.ggml.model"),
        tokenizer_pre=values.text("tokenizer.ggml.pre"),
        chat_template=values.text("tokenizer.chat_template") or None,
        bos_id=values.maybe_count("tokenizer.ggml.bos_token_id"),
        eos_id=values.maybe_count("tokenizer.ggml.eos_token_id"),
        add_bos=values.maybe_flag("tokenizer.ggml.add_bos_token"),
        quantization=_quantization(values),
        parameter_count=sum(tensor.elements for tensor in header.tensors),
        tensor_count=len(header.tensors),
        tensor_bytes=sum(tensor.bytes for tensor in header.tensors),
        file_bytes=header.file_bytes,
        data_offset=header.data_offset,
        alignment=header.alignment,
        split_count=values.count("split.count"),
        pooling=values.maybe_count(f"{architecture}.pooling_type"),
    )


def _require_plausible(values: _Values, architecture: str) -> None:
    """Refuses what llama.cpp does not refuse but asserts, which would end the process that loads it."""
    blocks = values.maybe_count(f"{architecture}.block_count")
    if blocks is not None and not 1 <= blocks <= _MAX_BLOCKS:
        raise values.bad(f"{architecture}.block_count", f"is {blocks}, not 1 to {_MAX_BLOCKS}")
    if values.count(f"{architecture}.nextn_predict_layers") > (blocks or 0):
        raise values.bad(f"{architecture}.nextn_predict_layers", "is more than there are blocks")
    experts = values.count(f"{architecture}.expert_count")
    used = values.count(f"{architecture}.expert_used_count")
    groups = values.count(f"{architecture}.expert_group_count")
    groups_used = values.count(f"{architecture}.expert_group_used_count")
    if experts > _MAX_EXPERTS:
        raise values.bad(f"{architecture}.expert_count", f"is {experts}, more than {_MAX_EXPERTS}")
    if not min(1, experts) <= used <= experts:
        raise values.bad(f"{architecture}.expert_used_count", f"is {used} of {experts} experts")
    if groups and (groups >= experts or (groups > 1 and experts % groups)):
        raise values.bad(f"{architecture}.expert_group_count", f"is {groups} for {experts} experts")
    if groups > 1 and not 1 <= groups_used < groups:
        raise values.bad(f"{architecture}.expert_group_used_count", f"is {groups_used} of {groups} groups")
    for name in ("layer_norm_rms_epsilon", "layer_norm_epsilon", "group_norm_epsilon"):
        epsilon = values.number(f"{architecture}.attention.{name}")
        if epsilon is not None and not 0 <= epsilon < math.inf:
            raise values.bad(f"{architecture}.attention.{name}", f"is {epsilon}, not a small positive number")


def _quantization(values: _Values) -> str:
    """The name of general.file_type; where that is absent or new, the type that holds most weights."""
    stated = values.maybe_count("general.file_type")
    if stated in FILE_TYPES:
        return FILE_TYPES[stated]
    elements: dict[int, int] = {}
    for tensor in values.header.tensors:
        elements[tensor.type] = elements.get(tensor.type, 0) + tensor.elements
    if not elements:
        return "none"
    return TENSOR_TYPES[max(elements, key=lambda number: elements[number])].name.upper()


class _Values:
    """Typed and bounded access to a header's keys."""

    def __init__(self, header: Header, label: str) -> None:
        self.header = header
        self._label = label

    def bad(self, key: str, problem: str) -> MalformedModel:
        return MalformedModel(self._label, f"{key} {problem}")

    def text(self, key: str) -> str:
        value = self.header.values.get(key, "")
        if not isinstance(value, str):
            raise self.bad(key, "is not a string")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        value = self.header.values.get(key)
        if value is None:
            return ()
        if not isinstance(value, Array) or value.items is None:
            raise self.bad(key, "is not a short array of strings")
        return tuple(item for item in value.items if isinstance(item, str))

    def count(self, key: str) -> int:
        return self.maybe_count(key) or 0

    def maybe_count(self, key: str) -> int | None:
        """A whole number; of an array with one number per layer, the largest."""
        value = self.header.values.get(key)
        if value is None:
            return None
        numbers = (value.items or ()) if isinstance(value, Array) else (value,)
        whole = [number for number in numbers if type(number) is int]
        if not whole or len(whole) != len(numbers):
            raise self.bad(key, "is not a whole number")
        if not all(0 <= number < _MAX_COUNT for number in whole):
            raise self.bad(key, f"is outside 0 to {_MAX_COUNT - 1}")
        return max(whole)

    def number(self, key: str) -> float | None:
        value = self.header.values.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, float | int)):
            raise self.bad(key, "is not a number")
        return value

    def maybe_flag(self, key: str) -> bool | None:
        value = self.header.values.get(key)
        if value is not None and not isinstance(value, bool):
            raise self.bad(key, "is not true or false")
        return value

    def length(self, key: str) -> int:
        value = self.header.values.get(key)
        if value is None:
            return 0
        if not isinstance(value, Array):
            raise self.bad(key, "is not an array")
        return value.length
