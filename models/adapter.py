"""Preflight of LoRA adapters: GGUF files that change a model's answers, and are nothing without it.

Format: what llama.cpp's convert_lora_to_gguf.py writes: general.type `adapter`, adapter.type `lora`, and for
each changed weight W of shape [in, out] the tensors `W.lora_a` [in, rank] and `W.lora_b` [rank, out]. Whether
an adapter fits a model is checked against that model's own header; tensor data is never read.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from models.errors import MalformedModel, UnsupportedModel
from models.gguf_reader import Header, Tensor, read_header
from models.region import Extent, Region

TYPE = "adapter"
_A, _B = ".lora_a", ".lora_b"
_FLIPPED = "token_embd.weight"  # llama.cpp takes its two parts the other way round
_MAX_RANK = 4096


class AdapterFacts(NamedTuple):
    """`pairs`: for each changed weight its two parts. `tensor_bytes`: what it takes in memory."""

    architecture: str
    licence: str
    alpha: float
    pairs: dict[str, tuple[Tensor, Tensor]]
    tensor_bytes: int


def read_adapter(path: Path, start: int = 0, length: int | None = None) -> AdapterFacts:
    """Raises MalformedModel, UnsupportedModel for an adapter that is no LoRA, OSError."""
    with Region(path, start, length) as region:
        header, label = read_header(region), region.label
    if header.values.get("general.type") != TYPE:
        raise UnsupportedModel(label, "is no adapter: its general.type is not `adapter`")
    kind = header.values.get("adapter.type")
    if kind != "lora":
        raise UnsupportedModel(label, f"is an adapter of type {kind!r}; only `lora` is served")
    if "adapter.alora.invocation_tokens" in header.values:
        raise UnsupportedModel(label, "is an activated LoRA, which takes effect in mid-prompt; not served")
    architecture = header.values.get("general.architecture")
    alpha = header.values.get("adapter.lora.alpha", 0.0)
    if not isinstance(architecture, str) or not architecture:
        raise MalformedModel(label, "general.architecture is missing")
    if not isinstance(alpha, float) or not 0 <= alpha <= 1e6:
        raise MalformedModel(label, f"adapter.lora.alpha is {alpha!r}, not a number of 0 to 1e6")
    licence = header.values.get("general.license", "")
    return AdapterFacts(
        architecture,
        licence if isinstance(licence, str) else "",
        float(alpha),
        _pairs(header, label),
        sum(tensor.bytes for tensor in header.tensors),
    )


def misfit(facts: AdapterFacts, base: Extent) -> str | None:
    """Why the adapter does not fit the model in `base`, or None. Raises MalformedModel for a damaged one."""
    with Region(base.path, base.start, base.length) as region:
        header = read_header(region)
    architecture = header.values.get("general.architecture")
    if architecture != facts.architecture:
        return f"it is made for {facts.architecture} models, not for {architecture}"
    weights = {tensor.name: tensor for tensor in header.tensors}
    for name, (a, b) in facts.pairs.items():
        if name not in weights:
            return f"it changes {name!r}, which the model does not have"
        expected = weights[name].dimensions
        actual = (a.dimensions[0], b.dimensions[1])
        if name == _FLIPPED:
            actual = (b.dimensions[1], a.dimensions[1])
        if actual != expected:
            return f"it changes {name!r} of shape {actual}, which in the model has {expected}"
    return None


def _pairs(header: Header, label: str) -> dict[str, tuple[Tensor, Tensor]]:
    parts = {tensor.name: tensor for tensor in header.tensors}
    if whole := next((name for name in parts if not name.endswith((_A, _B))), None):
        raise UnsupportedModel(label, f"replaces {whole!r} whole; only low-rank changes are served")
    names = sorted({name.removesuffix(_A).removesuffix(_B) for name in parts})
    pairs = {}
    for name in names:
        if name + _A not in parts or name + _B not in parts:
            raise MalformedModel(label, f"lacks one of the parts {name + _A!r} and {name + _B!r}")
        a, b = parts[name + _A], parts[name + _B]
        rank = a.dimensions[0] if name == _FLIPPED else a.dimensions[1:2]
        inner = b.dimensions[0] if name == _FLIPPED else b.dimensions[0:1]
        if len(a.dimensions) != 2 or len(b.dimensions) != 2 or rank != inner:
            raise MalformedModel(
                label, f"the parts of {name!r} do not fit: {a.dimensions} and {b.dimensions}"
            )
        if min(a.dimensions + b.dimensions) > _MAX_RANK:
            raise MalformedModel(label, f"{name!r} has a rank of more than {_MAX_RANK}")
        pairs[name] = (a, b)
    if not pairs:
        raise MalformedModel(label, "changes no weight")
    return pairs
