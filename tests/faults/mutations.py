"""Seeded mutations of a small sound GGUF: of its bytes, its fields, and of what they mean.

Says nothing about what should become of them.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tests import tiny_model

Raw = Callable[[random.Random, bytes], bytes]
Built = Callable[[random.Random, dict[str, Any], dict[str, Any]], None]


class Span(NamedTuple):
    """Bytes of a file that mean one thing."""

    kind: str
    start: int
    end: int


class Mutation(NamedTuple):
    name: str
    content: bytes


# What a file is made of


def spans(content: bytes) -> list[Span]:
    """The fields of a sound file, in their order."""
    found: list[Span] = [
        Span("magic", 0, 4),
        Span("version", 4, 8),
        Span("count", 8, 16),
        Span("count", 16, 24),
    ]
    at = 24

    def take(kind: str, size: int) -> bytes:
        nonlocal at
        found.append(Span(kind, at, at + size))
        at += size
        return content[at - size : at]

    def number(kind: str, size: int) -> int:
        return int.from_bytes(take(kind, size), "little")

    def text(kind: str) -> None:
        take(kind, number("length", 8))

    def value(kind: int) -> None:
        if kind == tiny_model.STRING:
            text("text")
        elif kind == tiny_model.ARRAY:
            item, count = number("type", 4), number("length", 8)
            for _ in range(count):
                value(item)
        else:
            take("value", 1 if kind == tiny_model.BOOL else 4)

    tensors, keys = struct.unpack_from("<QQ", content, 8)
    for _ in range(keys):
        text("key")
        value(number("type", 4))
    for _ in range(tensors):
        text("tensor name")
        for _ in range(number("rank", 4)):
            take("dimension", 8)
        take("tensor type", 4)
        take("offset", 8)
    found.append(Span("data", at, len(content)))
    return found


INTERESTING = (0, 1, 2, 3, 31, 33, 63, 65, 127, 255, 256, 4095, 65_535, 1 << 20, (1 << 31) - 1, 1 << 31)
HUGE = ((1 << 32) - 1, 1 << 32, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)


def _number(random: random.Random, size: int, old: int) -> int:
    choices = [*INTERESTING, *HUGE, old + 1, old - 1, old * 2, old // 2, random.getrandbits(8 * size)]
    return random.choice(choices) % (1 << (8 * size))


def _field(*kinds: str) -> Raw:
    """Another number in one of the fields of these kinds."""

    def mutate(random: random.Random, content: bytes) -> bytes:
        span = random.choice([each for each in spans(content) if each.kind in kinds])
        size = span.end - span.start
        old = int.from_bytes(content[span.start : span.end], "little")
        return (
            content[: span.start] + _number(random, size, old).to_bytes(size, "little") + content[span.end :]
        )

    return mutate


def _bits(
    first: Callable[[bytes], int], last: Callable[[bytes], int]
) -> Callable[[random.Random, bytes], bytes]:
    """A few flipped bits between two places."""

    def mutate(random: random.Random, content: bytes) -> bytes:
        changed = bytearray(content)
        for _ in range(random.choice((1, 1, 2, 8))):
            changed[random.randrange(first(content), last(content))] ^= 1 << random.randrange(8)
        return bytes(changed)

    return mutate


def _words(random: random.Random, content: bytes) -> bytes:
    """Random bytes in a text, be it a key, a token, the template or a tensor's name."""
    texts = [
        each
        for each in spans(content)
        if each.kind in ("key", "text", "tensor name") and each.end > each.start
    ]
    span = random.choice(texts)
    return content[: span.start] + random.randbytes(span.end - span.start) + content[span.end :]


def _truncated(random: random.Random, content: bytes) -> bytes:
    return content[: random.randrange(len(content))]


def _stretched(random: random.Random, content: bytes) -> bytes:
    """Bytes put in or taken out in the header, so that all behind them is displaced."""
    at, size = random.randrange(4, _header(content)), random.randrange(1, 64)
    return content[:at] + (
        random.randbytes(size) + content[at:] if random.random() < 0.5 else content[at + size :]
    )


def _header(content: bytes) -> int:
    return spans(content)[-1].start


# Well-formed files that make no sense: what a preflight lets pass


def _metadata(random: random.Random, keys: dict[str, Any], tensors: dict[str, Any]) -> None:
    name = random.choice(list(keys))
    kind, value = keys[name]
    if kind == tiny_model.U32:
        keys[name] = (kind, _number(random, 4, value))
    elif kind == tiny_model.F32:
        keys[name] = (kind, random.choice((0.0, -1.0, float("nan"), float("inf"), 1e38, 1e-45)))
    elif kind == tiny_model.BOOL:
        keys[name] = (kind, not value)
    elif kind == tiny_model.STRING:
        keys[name] = (
            kind,
            random.choice(("", "bert", "gpt2", "mamba", "llama4", "x" * 5000, "{% for %}", "\x00")),
        )
    else:
        item, items = value
        keys[name] = (kind, (item, items[: random.randrange(len(items))] * random.choice((1, 1, 3))))


def _shapes(random: random.Random, keys: dict[str, Any], tensors: dict[str, Any]) -> None:
    name = random.choice(list(tensors))
    shape = [max(1, size * random.choice((1, 2, 3)) // random.choice((1, 2))) for size in tensors[name].shape]
    if random.random() < 0.3:
        shape.append(random.randrange(1, 4))
    tensors[name] = np.zeros(shape, np.float32)


def _missing(random: random.Random, keys: dict[str, Any], tensors: dict[str, Any]) -> None:
    parts = random.choice((keys, tensors))
    del parts[random.choice(list(parts))]


def _renamed(random: random.Random, keys: dict[str, Any], tensors: dict[str, Any]) -> None:
    parts = random.choice((keys, tensors))
    name = random.choice(list(parts))
    parts[random.choice((name + "s", name.upper(), "blk.9999.attn_q.weight", "tokenizer.ggml.merges"))] = (
        parts.pop(name)
    )


def _weights(random: random.Random, keys: dict[str, Any], tensors: dict[str, Any]) -> None:
    name = random.choice(list(tensors))
    numbers = tensors[name].copy()
    numbers.flat[:: random.choice((1, 7))] = random.choice((np.nan, np.inf, -np.inf, 3e38, 0.0))
    tensors[name] = numbers


def _vocabulary(random: random.Random, keys: dict[str, Any], tensors: dict[str, Any]) -> None:
    kind, (item, tokens) = keys["tokenizer.ggml.tokens"]
    tokens = list(tokens)
    for _ in range(random.choice((1, 20, 250))):
        tokens[random.randrange(len(tokens))] = random.choice(
            ("", "a", "<s>", "é" * 300, "<|im_end|>", "<0xZZ>")
        )
    keys["tokenizer.ggml.tokens"] = (kind, (item, tokens))
    kinds = [random.randrange(-1, 9) for _ in tokens]
    if random.random() < 0.3:
        keys["tokenizer.ggml.token_type"] = (tiny_model.ARRAY, (tiny_model.I32, kinds))


def _token_ids(random: random.Random, keys: dict[str, Any], tensors: dict[str, Any]) -> None:
    name = random.choice(("bos", "eos", "unknown", "padding", "eot", "fim_pre"))
    keys[f"tokenizer.ggml.{name}_token_id"] = (tiny_model.U32, random.choice((*INTERESTING, (1 << 32) - 1)))


def _architecture(random: random.Random, keys: dict[str, Any], tensors: dict[str, Any]) -> None:
    name = random.choice(
        ("qwen2", "gemma", "gemma3", "phi3", "mamba", "rwkv6", "bert", "deepseek2", "clip", "adapter")
    )
    for key in [key for key in keys if key.startswith("llama.")]:
        keys[name + key.removeprefix("llama")] = keys.pop(key)
    keys["general.architecture"] = (tiny_model.STRING, name)


def _extras(random: random.Random, keys: dict[str, Any], tensors: dict[str, Any]) -> None:
    name, value = random.choice(
        (
            ("llama.expert_count", 8),
            ("llama.expert_count", 1 << 31),
            ("llama.rope.scaling.factor", 0),
            ("llama.attention.key_length", 1 << 20),
            ("llama.attention.value_length", 3),
            ("llama.attention.sliding_window", 1),
            ("llama.rope.freq_base", 0),
            ("split.count", 7),
            ("general.alignment", 3),
            ("general.quantization_version", 1 << 31),
        )
    )
    keys[name] = (tiny_model.U32, value)


RAW: dict[str, Raw] = {
    "bits of the first 24 bytes": _bits(lambda _: 0, lambda _: 24),
    "bits of the header": _bits(lambda _: 0, _header),
    "bits of the weights": _bits(_header, len),
    "counts": _field("count"),
    "lengths": _field("length"),
    "types": _field("type", "tensor type", "rank"),
    "dimensions": _field("dimension"),
    "offsets": _field("offset"),
    "values": _field("value"),
    "texts": _words,
    "an early end": _truncated,
    "bytes put in or taken out": _stretched,
}
BUILT: dict[str, Built] = {
    "metadata that make no sense": _metadata,
    "other shapes": _shapes,
    "missing parts": _missing,
    "renamed parts": _renamed,
    "weights that are no numbers": _weights,
    "another vocabulary": _vocabulary,
    "token ids out of range": _token_ids,
    "another architecture": _architecture,
    "further keys": _extras,
}
KINDS = (*RAW, *BUILT)


def mutation(seed: int, number: int) -> Mutation:
    """The `number`-th mutation of this seed, always the same."""
    chosen = random.Random(f"{seed}/{number}")
    name = KINDS[number % len(KINDS)]
    if name in RAW:
        return Mutation(name, RAW[name](chosen, tiny_model.tiny_gguf()))
    keys, tensors = tiny_model.keys(), tiny_model.tensors()
    BUILT[name](chosen, keys, tensors)
    return Mutation(name, tiny_model.gguf(keys, tensors))
