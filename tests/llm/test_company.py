"""Rows of many sequences in one batch, with the real SmolLM2-135M: each sees its own cells and no others.

What goes into ggml's attention (build/masked_cells.cmake) skips what a row does not see; these tests would
find that it skips too much, or too little.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest

from appliance.launch import GeneratorOrder
from appliance.llm import bindings
from appliance.llm.backend import Span
from appliance.llm.native import LlamaBackend
from models.store import Store
from tests.llm.test_bindings import ROUNDING, Floats
from tests.serving import CHAT, missing_models, store_directory

STREAMS = 32
NEWCOMER = STREAMS
TOPICS = "bread ships rain iron horses letters bridges winter clocks salt coal maps".split()


@pytest.fixture(scope="module")
def backend() -> Iterator[LlamaBackend]:
    if missing_models([CHAT]):
        pytest.skip(f"{CHAT} is not in the model store {store_directory()}; `make test` gets it")
    bindings.load_compute_backends()
    weights = Store(store_directory()).path(CHAT, "model.gguf")
    order = GeneratorOrder(name="smol", weights=str(weights), threads=2, slots=STREAMS, batch_tokens=256)
    backend = LlamaBackend(order, 2048, lambda _: None)
    yield backend
    backend.close()


def tokens_of(backend: LlamaBackend, number: int, words: int) -> list[int]:
    """The beginning of a story that is like no other's."""
    told = " ".join(TOPICS[(number * number + word * (number + 1)) % len(TOPICS)] for word in range(words))
    return backend.vocabulary.tokenize(f"Story {number} about {told}", add_bos=False, parse_special=False)


def alone(backend: LlamaBackend, tokens: list[int]) -> Floats:
    """The logits behind the last token, computed with nothing else in the cache."""
    for sequence in range(backend.sequences):
        backend.forget(sequence)
    backend.decode([Span(0, 0, tokens, 1)])
    last = np.array(backend.logits(0))
    backend.forget(0)
    return last


def differences(backend: LlamaBackend, expected: list[Floats]) -> list[float]:
    return [float(np.abs(backend.logits(row) - logits).max()) for row, logits in enumerate(expected)]


def test_in_a_step_of_many_rows_and_a_prompt_each_is_as_it_is_alone(backend: LlamaBackend) -> None:
    stories = [tokens_of(backend, number, 10) for number in range(STREAMS)]
    prompt = tokens_of(backend, 77, 90)[:96]
    expected = [alone(backend, tokens) for tokens in [*stories, prompt]]
    apart = min(float(np.abs(one - other).max()) for one, other in itertools.pairwise(expected))
    assert apart > 2 * ROUNDING, "the texts are too much alike to tell who saw whose cells"

    for first in range(0, STREAMS, 8):  # prompts of eight streams side by side: tiles with many sequences
        backend.decode([Span(s, 0, stories[s][:-1], 0) for s in range(first, first + 8)])
    rows = [Span(s, len(stories[s]) - 1, stories[s][-1:], 1) for s in range(STREAMS)]
    backend.decode([*rows, Span(NEWCOMER, 0, prompt, 1)])  # more rows than a tile has
    assert max(differences(backend, expected)) < ROUNDING

    for sequence, tokens in enumerate(stories):
        backend.forget(sequence, len(tokens) - 1)
    backend.decode(rows)  # fewer: row by row
    assert max(differences(backend, expected[:STREAMS])) < ROUNDING


def test_a_prompt_behind_the_cells_of_others_is_as_it_is_alone(backend: LlamaBackend) -> None:
    prompt = tokens_of(backend, 78, 200)[:256]
    expected = alone(backend, prompt)
    for sequence in range(4):
        backend.decode([Span(sequence, 0, tokens_of(backend, sequence, 150)[:200], 0)])
    backend.decode([Span(NEWCOMER, 0, prompt, 1)])
    assert differences(backend, [expected])[0] < ROUNDING
