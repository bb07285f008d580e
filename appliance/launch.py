"""Launch orders: the first frame that a worker process receives, with everything it needs to load and start.

Plain data like `appliance.records`, and in the same units; how an order is made of settings and model files
is `appliance.orders`' business.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

EncoderRole = Literal["embed", "rerank"]


class AdapterFile(Struct, frozen=True, kw_only=True):
    """A LoRA adapter that a generator loads beside its model, to be chosen per request."""

    name: str
    path: str
    offset: int = 0
    bytes: int = 0  # 0: to the end of the file
    scale: float = 1.0


class DraftModelFile(Struct, frozen=True, kw_only=True):
    """A small model that drafts for the generator's own."""

    name: str
    weights: str
    offset: int = 0
    bytes: int = 0
    cell_bytes: int = 0  # of one token in its cache


class GeneratorOrder(Struct, frozen=True, kw_only=True, tag="generator"):
    """Everything a generator process needs to load its model and start."""

    name: str
    weights: str  # path of the GGUF, or of the executable that carries it
    weights_offset: int = 0
    weights_bytes: int = 0
    context_length: int = 0  # cap for one request; 0: the model's own
    cells: int = 0  # KV cells shared by all sequences; 0: chosen from the model and the memory at hand
    slots: int = 16
    batch_tokens: int = 512
    threads: int = 0
    queue_requests: int = 64
    queue_tokens: int = 262_144
    chat_template: str | None = None  # overrides the file's own
    seconds_per_template: float = 1.0
    cache_type: Literal["f16", "q8_0"] = "f16"
    flash_attention: Literal["auto", "on", "off"] = "auto"
    repack: bool = True  # copy weights into a faster order instead of mapping the file
    draft: bool = True
    end_circles: bool = True  # an answer that says one passage again and again is ended
    draft_model: DraftModelFile | None = None  # None: drafts are looked up in the text itself
    prefix_memory: int = 0  # bytes of stored prefixes in memory; 0: none are stored
    prefix_disk: int = 0  # and on disk, in
    prefix_directory: str = ""
    fingerprint: str = ""  # of weights and of whatever else decides what the cache's bytes mean
    adapters: tuple[AdapterFile, ...] = ()
    cell_bytes: int = 0  # of one token in the cache


class EncoderModel(Struct, frozen=True, kw_only=True):
    """One ONNX model of the encoder and the facts that its manifest pins."""

    name: str
    role: EncoderRole
    weights: str
    tokenizer: str
    weights_offset: int = 0
    weights_bytes: int = 0  # 0: to the end of the file
    tokenizer_offset: int = 0
    tokenizer_bytes: int = 0  # 0: to the end of the file
    output: str = ""  # the graph's output to read; "": the only one of the right shape
    max_tokens: int = 512
    dimensions: int = 0
    truncatable: bool = False  # Matryoshka-trained: a prefix of the vector is a vector
    pooling: Literal["mean", "cls"] = "mean"
    normalize: bool = True
    pad_token: int = 0
    query_prefix: str = ""
    passage_prefix: str = ""
    languages: tuple[str, ...] = ()


class EncoderOrder(Struct, frozen=True, kw_only=True, tag="encoder"):
    models: tuple[EncoderModel, ...]
    threads: int = 0  # 0: one per physical core this process may use
    batch_tokens: int = 0  # padded tokens of one run of a model; 0: 256 per thread, at least 512
    queue_requests: int = 256
    queue_tokens: int = 2_097_152  # waiting tokens of all requests together


Order = GeneratorOrder | EncoderOrder
