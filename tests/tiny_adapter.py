"""A LoRA adapter of rank 1 for the tiny model, or for any other: a few kilobytes of GGUF, written here."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tests import tiny_model

Shapes = Mapping[str, tuple[int, int]]  # weight → rows and columns, in numpy's order

TINY_SHAPES: Shapes = {
    "blk.0.ffn_down.weight": (tiny_model.WIDTH, tiny_model.HIDDEN),
    "blk.0.attn_output.weight": (tiny_model.WIDTH, tiny_model.WIDTH),
}


def adapter_gguf(
    seed: int = 1, shapes: Shapes = TINY_SHAPES, *, alpha: float = 8.0, **keys: tiny_model.Key
) -> bytes:
    """Random changes of rank 1 to the weights of `shapes`, strong enough to change what is said."""
    random = np.random.default_rng(seed)
    tensors: dict[str, tiny_model.Weights] = {}
    for name, (rows, columns) in shapes.items():
        tensors[name + ".lora_a"] = random.standard_normal((1, columns)).astype(np.float32) / np.sqrt(columns)
        tensors[name + ".lora_b"] = random.standard_normal((rows, 1)).astype(np.float32)
    own: dict[str, tiny_model.Key] = {
        "general.type": (tiny_model.STRING, "adapter"),
        "general.architecture": (tiny_model.STRING, "llama"),
        "general.license": (tiny_model.STRING, "mit"),
        "adapter.type": (tiny_model.STRING, "lora"),
        "adapter.lora.alpha": (tiny_model.F32, alpha),
    }
    return tiny_model.gguf(own | keys, tensors)
