"""What a model will take, and how large a cache it is given for that."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from appliance.config.schema import Generator, Settings
from appliance.orders import CACHE_SHARE_OF_MEMORY, MIN_CELLS, cell_bytes, estimate
from models.gguf import GgufFacts, read_gguf
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
    assert found.bytes == found.weights + found.cache + found.working
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
