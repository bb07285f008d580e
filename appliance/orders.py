"""From an installed model and the settings to a worker's launch order: paths, facts, and how much memory.

Reads model headers through the preflight, never weights: what a model will take is known before any process
starts. Whether there is room for it is `residency`'s business.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import cast

import msgspec

from appliance import paths
from appliance.config.schema import Generator, Settings
from appliance.errors import SetupError
from appliance.launch import (
    AdapterFile,
    DraftModelFile,
    EncoderModel,
    EncoderOrder,
    EncoderRole,
    GeneratorOrder,
)
from models.adapter import misfit, read_adapter
from models.errors import ModelError
from models.gguf import GgufFacts, read_gguf
from models.library import ModelSource
from models.region import Extent
from models.store import Installed

log = logging.getLogger("hearth.orders")

CACHE_BYTES = {"f16": 2.0, "q8_0": 34 / 32}  # per value; q8_0 keeps a scale for each 32
MAX_DEFAULT_CELLS = 16_384
MIN_CELLS = 512
CACHE_SHARE_OF_MEMORY = 4  # a default cache takes at most 1/4 of the memory for models

# What a generator takes besides weights and cache, measured with models of 49k and 152k tokens: the process
# and its libraries; logits for every sequence; token texts and tries; activations of the largest batch.
PROCESS_BYTES = 64 * 1024 * 1024
LEAST_SEQUENCES = 64
TOKEN_BYTES = 600
ACTIVATION_BYTES = 80  # per token of a batch and number of its embedding


@dataclass(frozen=True)
class Estimate:
    """Bytes that a chat model will take, known before it is loaded. `cells`: tokens of its KV cache.

    `stored`: what beginnings of prompts may grow to beside the cache.
    """

    weights: int
    cache: int
    working: int
    cells: int
    stored: int = 0

    @property
    def bytes(self) -> int:
        return self.weights + self.cache + self.working + self.stored

    def __str__(self) -> str:
        parts = f"weights {mebibytes(self.weights)}, cache for {self.cells} tokens {mebibytes(self.cache)}"
        parts += f", working memory {mebibytes(self.working)}"
        if self.stored:
            parts += f", beginnings of prompts up to {mebibytes(self.stored)}"
        return f"{mebibytes(self.bytes)} ({parts})"


def cell_bytes(facts: GgufFacts, cache_type: str) -> int:
    """Bytes of one token's keys and values in all layers."""
    values = facts.block_count * facts.head_count_kv * (facts.key_length + facts.value_length)
    return int(values * CACHE_BYTES[cache_type])


def choose_cells(facts: GgufFacts, settings: Settings, memory: int, others: int) -> int:
    """Tokens of KV cache: as set, else what the model can use within a share of `memory` bytes, of which
    `others` are for all else that the model takes.
    """
    if settings.generator.cells:
        return settings.generator.cells
    share = max(0, min(memory // CACHE_SHARE_OF_MEMORY, memory - others))
    affordable = share // max(1, cell_bytes(facts, settings.generator.cache_type))
    wanted = min(settings.generator.context_length or facts.context_length, MAX_DEFAULT_CELLS)
    return max(MIN_CELLS, min(wanted, affordable) // 256 * 256)


def estimate(facts: GgufFacts, settings: Settings, memory: int) -> Estimate:
    """What the model will take where all chat models together may take `memory` bytes.

    Stored beginnings are worth having and never worth refusing a model for: they get what it leaves. What
    they may grow to is counted from the start, so that no other model is promised the same memory.
    """
    generator = settings.generator
    working = PROCESS_BYTES + context_bytes(facts, generator)
    cells = choose_cells(facts, settings, memory, facts.tensor_bytes + working)
    cache = cells * cell_bytes(facts, generator.cache_type)
    left = memory - facts.tensor_bytes - working - cache
    return Estimate(
        weights=facts.tensor_bytes,
        cache=cache,
        working=working,
        cells=cells,
        stored=max(0, min(generator.prefix_memory, left)),
    )


def context_bytes(facts: GgufFacts, generator: Generator) -> int:
    """What computing takes besides weights and cache."""
    sequences = max(LEAST_SEQUENCES, 2 * generator.slots)
    logits = facts.vocab_size * (4 * sequences + TOKEN_BYTES)
    return logits + generator.batch_tokens * facts.embedding_length * ACTIVATION_BYTES


def generator_order(
    installed: Installed,
    source: ModelSource,
    settings: Settings,
    memory: int,
    adapters: Sequence[Installed] = (),
) -> tuple[GeneratorOrder, Estimate]:
    """How to launch the model and its adapters within `memory` bytes for all chat models, and what it takes.

    Raises SetupError when the file is gone or damaged; an adapter that does not fit is left out.
    """
    weights, facts = _weights(source, installed.name)
    fitting = tuple(_adapter_files(adapters, source, weights))
    expected = estimate(facts, settings, memory)
    expected = replace(expected, weights=expected.weights + sum(each.bytes for each in fitting))
    generator = settings.generator
    drafting = _draft_model(installed.name, facts, source, generator)
    if drafting is not None:
        expected = _with_draft_model(expected, drafting[1], generator)
    order = GeneratorOrder(
        name=installed.name,
        weights=str(weights.path),
        weights_offset=weights.start,
        weights_bytes=weights.length,
        context_length=generator.context_length,
        cells=expected.cells,
        slots=generator.slots,
        batch_tokens=generator.batch_tokens,
        threads=generator.threads,
        queue_requests=generator.queue_requests,
        queue_tokens=generator.queue_tokens,
        seconds_per_template=generator.template_seconds,
        cache_type=generator.cache_type,
        flash_attention=generator.flash_attention,
        repack=generator.weights == "repack",
        draft=generator.draft,
        end_circles=generator.end_circles,
        draft_model=drafting[0] if drafting else None,
        prefix_memory=expected.stored,
        prefix_disk=generator.prefix_disk,
        prefix_directory=str(paths.prefixes(paths.cache()) / installed.name),
        fingerprint=_fingerprint(installed, adapters),
        adapters=fitting,
        cell_bytes=cell_bytes(facts, generator.cache_type),
    )
    return order, expected


def _weights(source: ModelSource, name: str) -> tuple[Extent, GgufFacts]:
    """Raises SetupError when the model's file is gone or damaged."""
    try:
        weights = source.extent(name, "model.gguf")
        return weights, read_gguf(weights.path, weights.start, weights.length)
    except (ModelError, OSError) as error:
        raise SetupError(f"the model {name} cannot be used: {error}") from error


def _draft_model(
    name: str, facts: GgufFacts, source: ModelSource, generator: Generator
) -> tuple[DraftModelFile, GgufFacts] | None:
    """The small model that drafts for the one called `name`, as generator.draft_models says.

    Raises SetupError when it is not there or has another vocabulary; the generator compares the words too.
    """
    small = generator.draft_models.get(name)
    if small is None or not generator.draft:
        return None
    try:
        weights, small_facts = _weights(source, small)
    except SetupError as error:
        raise SetupError(
            f"generator.draft_models has {small} draft for {name}, but {error.message}"
        ) from error
    if small_facts.vocab_size != facts.vocab_size:
        raise SetupError(
            f"generator.draft_models has {small} draft for {name}, but its vocabulary of "
            f"{small_facts.vocab_size:,} tokens is another than that of {facts.vocab_size:,}"
        )
    file = DraftModelFile(
        name=small,
        weights=str(weights.path),
        offset=weights.start,
        bytes=weights.length,
        cell_bytes=cell_bytes(small_facts, generator.cache_type),
    )
    return file, small_facts


def _with_draft_model(expected: Estimate, small: GgufFacts, generator: Generator) -> Estimate:
    return replace(
        expected,
        weights=expected.weights + small.tensor_bytes,
        cache=expected.cache + expected.cells * cell_bytes(small, generator.cache_type),
        working=expected.working + context_bytes(small, generator),
    )


def _fingerprint(installed: Installed, adapters: Sequence[Installed]) -> str:
    """Of everything in the files that decides what the cache's bytes mean; an adapter's strength does too."""
    parts = [file.sha256 for each in (installed, *adapters) for file in each.manifest.files]
    parts += [f"{each.name}*{each.manifest.adapter.scale}" for each in adapters if each.manifest.adapter]
    return ",".join(parts)


def _adapter_files(adapters: Sequence[Installed], source: ModelSource, base: Extent) -> Iterator[AdapterFile]:
    """Those that fit the model in `base` as it is now: it may be another than when they were added."""
    for installed in adapters:
        assert installed.manifest.adapter is not None, "the manifest's own check"
        extent = _extent(source, installed, "model.gguf")
        try:
            problem = misfit(read_adapter(extent.path, extent.start, extent.length), base)
        except (ModelError, OSError) as error:
            problem = str(error)
        if problem is not None:
            log.warning("the adapter %s is not served: %s", installed.name, problem)
            continue
        yield AdapterFile(
            name=installed.name,
            path=str(extent.path),
            offset=extent.start,
            bytes=extent.length,
            scale=installed.manifest.adapter.scale,
        )


def encoder_order(installed: list[Installed], source: ModelSource, settings: Settings) -> EncoderOrder:
    """Raises SetupError when a model's files are gone."""
    return EncoderOrder(
        models=tuple(_encoder_model(model, source) for model in installed),
        threads=settings.encoder.threads,
        batch_tokens=settings.encoder.batch_tokens,
        queue_requests=settings.encoder.queue_requests,
    )


def _encoder_model(installed: Installed, source: ModelSource) -> EncoderModel:
    manifest = installed.manifest
    weights, tokenizer = (
        _extent(source, installed, "model.onnx"),
        _extent(source, installed, "tokenizer.json"),
    )
    assert manifest.encoding is not None
    model = EncoderModel(
        name=manifest.name,
        role=cast(EncoderRole, manifest.role),
        weights=str(weights.path),
        weights_offset=weights.start,
        weights_bytes=weights.length,
        tokenizer=str(tokenizer.path),
        tokenizer_offset=tokenizer.start,
        tokenizer_bytes=tokenizer.length,
        output=manifest.encoding.output,
        max_tokens=manifest.encoding.max_tokens,
        pad_token=manifest.encoding.pad_id,
        languages=manifest.languages,
    )
    pooling = manifest.pooling
    if pooling is None:
        return model
    return msgspec.structs.replace(
        model,
        dimensions=pooling.dimensions,
        truncatable=bool(pooling.truncatable),
        pooling=pooling.method,
        normalize=pooling.normalize,
        query_prefix=pooling.query_prefix,
        passage_prefix=pooling.passage_prefix,
    )


def _extent(source: ModelSource, installed: Installed, file: str) -> Extent:
    try:
        return source.extent(installed.name, file)
    except ModelError as error:
        raise SetupError(f"the model {installed.name} cannot be used: {error.message}") from error


def mebibytes(count: int) -> str:
    return f"{count / 1024**2:,.0f} MiB"
