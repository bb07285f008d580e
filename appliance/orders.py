"""From an installed model and the settings to a worker's launch order: paths, facts, and how much cache.

Reads model headers through the preflight, never weights. A model that cannot fit is refused here, with the
numbers, before any process starts.
"""

from __future__ import annotations

import msgspec
import psutil

from appliance.config.schema import Settings
from appliance.errors import SetupError
from appliance.records import EncoderModel, EncoderOrder, GeneratorOrder
from models.errors import ModelError
from models.gguf import GgufFacts, read_gguf
from models.library import ModelSource
from models.region import Extent
from models.store import Installed

CACHE_BYTES = {"f16": 2.0, "q8_0": 34 / 32}  # per value; q8_0 keeps a scale for each 32
MAX_DEFAULT_CELLS = 16_384
MIN_CELLS = 512
CACHE_SHARE_OF_MEMORY = 4  # a default cache takes at most 1/4 of the memory that is free
COMPUTE_BYTES = 256 * 1024 * 1024  # logits, activations and the process itself, roughly


def cell_bytes(facts: GgufFacts, cache_type: str) -> int:
    """Bytes of one token's keys and values in all layers."""
    values = facts.block_count * facts.head_count_kv * (facts.key_length + facts.value_length)
    return int(values * CACHE_BYTES[cache_type])


def choose_cells(facts: GgufFacts, settings: Settings, available: int) -> int:
    """Tokens of KV cache: as set, else what the model can use within a share of `available` bytes."""
    if settings.generator.cells:
        return settings.generator.cells
    affordable = (
        available // CACHE_SHARE_OF_MEMORY // max(1, cell_bytes(facts, settings.generator.cache_type))
    )
    wanted = min(settings.generator.context_length or facts.context_length, MAX_DEFAULT_CELLS)
    return max(MIN_CELLS, min(wanted, affordable) // 256 * 256)


def generator_order(installed: Installed, source: ModelSource, settings: Settings) -> GeneratorOrder:
    """Raises SetupError when the file is damaged, or model and cache do not fit into memory."""
    weights = _extent(source, installed, "model.gguf")
    try:
        facts = read_gguf(weights.path, weights.start, weights.length)
    except (ModelError, OSError) as error:
        raise SetupError(f"the model {installed.name} cannot be used: {error}") from error
    available = psutil.virtual_memory().available
    cells = choose_cells(facts, settings, available)
    cache = cells * cell_bytes(facts, settings.generator.cache_type)
    needed = facts.tensor_bytes + cache + COMPUTE_BYTES
    if needed > available:
        raise SetupError(
            f"the model {installed.name} needs about {_mebibytes(needed)} of memory (weights "
            f"{_mebibytes(facts.tensor_bytes)}, cache for {cells} tokens "
            f"{_mebibytes(cache)}), but only {_mebibytes(available)} is free; "
            "lower generator.cells or serve a smaller model"
        )
    generator = settings.generator
    return GeneratorOrder(
        name=installed.name,
        weights=str(weights.path),
        weights_offset=weights.start,
        weights_bytes=weights.length,
        context_length=generator.context_length,
        cells=cells,
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
        role=manifest.role,
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


def _mebibytes(count: int) -> str:
    return f"{count / 1024**2:,.0f} MiB"
