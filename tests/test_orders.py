"""What a model will take, and how large a cache it is given for that."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from appliance.config.schema import Generator, Settings
from appliance.errors import SetupError
from appliance.launch import GeneratorOrder
from appliance.orders import (
    CACHE_SHARE_OF_MEMORY,
    MIN_CELLS,
    Estimate,
    cell_bytes,
    estimate,
    generator_order,
)
from models.gguf import GgufFacts, read_gguf
from models.library import Library
from models.store import Store
from tests import tiny_model

GIB = 1 << 30


@pytest.fixture
def facts(tmp_path: Path) -> GgufFacts:
    """A model with the tiny one's shape, but a context and layers as large ones have."""
    (tmp_path / "m.gguf").write_bytes(tiny_model.tiny_gguf())
    tiny = read_gguf(tmp_path / "m.gguf")
    return msgspec.structs.replace(
        tiny, context_length=32_768, block_count=32, head_count_kv=8, key_length=128, value_length=128
    )


def settings(**generator: object) -> Settings:
    return Settings(generator=Generator(**generator))  # type: ignore[arg-type]


def test_a_cell_holds_keys_and_values_of_every_layer(facts: GgufFacts) -> None:
    assert cell_bytes(facts, "f16") == 32 * 8 * (128 + 128) * 2
    assert cell_bytes(facts, "q8_0") == 32 * 8 * (128 + 128) * 34 // 32


def test_the_estimate_is_the_sum_of_its_parts_and_says_so(facts: GgufFacts) -> None:
    found = estimate(facts, settings(cells=1024), 8 * GIB)
    assert found.bytes == found.weights + found.cache + found.working + found.stored
    assert found.weights == facts.tensor_bytes
    assert found.cache == 1024 * cell_bytes(facts, "f16")
    assert "1024 tokens 128 MiB" in str(found)


def test_a_cache_takes_at_most_its_share_and_what_the_rest_leaves(facts: GgufFacts) -> None:
    roomy = estimate(facts, settings(), 64 * GIB)
    assert roomy.cells == 16_384, "no more than is of use"
    shared = estimate(facts, settings(), 4 * GIB)
    assert 0.9 * GIB < shared.cache <= 4 * GIB // CACHE_SHARE_OF_MEMORY
    heavy = msgspec.structs.replace(facts, tensor_bytes=4 * GIB - 512 * 1024**2)
    tight = estimate(heavy, settings(), 4 * GIB)
    assert tight.cells < shared.cells
    assert tight.bytes <= 4 * GIB, "with a smaller cache it still fits"


def test_a_cache_that_was_set_is_not_made_smaller(facts: GgufFacts) -> None:
    assert estimate(facts, settings(cells=8192), GIB // 2).cells == 8192


def test_there_is_always_a_least_cache(facts: GgufFacts) -> None:
    assert estimate(facts, settings(), 1).cells == MIN_CELLS


def test_a_request_needs_no_more_cells_than_it_may_have_tokens(facts: GgufFacts) -> None:
    assert estimate(facts, settings(context_length=2048), 64 * GIB).cells == 2048


def test_stored_beginnings_take_what_the_model_leaves_and_are_no_reason_to_refuse_it(
    facts: GgufFacts,
) -> None:
    roomy = estimate(facts, settings(cells=1024), 8 * GIB)
    assert roomy.stored == Generator().prefix_memory
    assert "beginnings of prompts up to 256 MiB" in str(roomy)
    without = roomy.bytes - roomy.stored
    tight = estimate(facts, settings(cells=1024), without + 5_000_000)
    assert tight.stored == 5_000_000
    none = estimate(facts, settings(cells=1024), without)
    assert none.bytes == without
    assert "beginnings" not in str(none)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    found = Store(tmp_path / "models")
    tiny_model.install(found, "large", tiny_model.tiny_gguf(1))
    tiny_model.install(found, "small", tiny_model.tiny_gguf(2))
    return found


def order_of_large(store: Store, **generator: object) -> tuple[GeneratorOrder, Estimate]:
    (large,) = [model for model in store.list() if model.name == "large"]
    return generator_order(large, Library(store), settings(**generator), GIB)


def test_a_draft_model_travels_with_the_order_and_its_memory_is_counted(store: Store) -> None:
    plain, alone = order_of_large(store)
    drafted, both = order_of_large(store, draft_models={"large": "small", "other": "large"})
    assert plain.draft_model is None
    assert drafted.draft_model is not None
    assert drafted.draft_model.name == "small"
    assert both.weights == 2 * alone.weights
    assert both.cache == 2 * alone.cache
    assert order_of_large(store, draft_models={"large": "small"}, draft=False)[0].draft_model is None


def test_a_draft_model_that_cannot_be_is_named_with_the_setting(store: Store) -> None:
    with pytest.raises(SetupError, match=r"generator\.draft_models has absent draft for large, but"):
        order_of_large(store, draft_models={"large": "absent"})
    keys = tiny_model.keys("other")
    for key in ("tokens", "scores", "token_type"):
        kind, (item, values) = keys[f"tokenizer.ggml.{key}"]
        keys[f"tokenizer.ggml.{key}"] = (kind, (item, values[:-1]))
    vocabulary = tiny_model.VOCABULARY - 1
    keys["llama.vocab_size"] = (tiny_model.U32, vocabulary)
    tensors = tiny_model.tensors()
    for name in ("token_embd.weight", "output.weight"):
        tensors[name] = tensors[name][:vocabulary]
    tiny_model.install(store, "other", tiny_model.gguf(keys, tensors))
    with pytest.raises(SetupError, match=r"its vocabulary of 259 tokens is another than that of 260"):
        order_of_large(store, draft_models={"large": "other"})
