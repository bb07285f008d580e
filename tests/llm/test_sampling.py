"""Which stages a request asks for, and log-probabilities against a plain softmax."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.llm.sampling import Stage, likeliest, logprobs, stages
from appliance.records import SamplingParams


def names(**params: object) -> list[str]:
    return [stage.name for stage in stages(SamplingParams(**params), seed=3)]  # type: ignore[arg-type]


def test_stages_stand_in_the_order_of_the_native_chain() -> None:
    everything = names(
        logit_bias={1: 2.0}, frequency_penalty=0.5, top_k=40, top_p=0.9, min_p=0.05, temperature=0.7
    )
    assert everything == ["logit_bias", "penalties", "top_k", "top_p", "min_p", "temperature", "draw"]


def test_stages_that_would_change_nothing_are_left_out() -> None:
    assert names() == ["draw"]
    assert names(temperature=0.0, top_k=40, top_p=0.5, min_p=0.5) == ["greedy"]
    assert names(temperature=0.0, presence_penalty=1.0) == ["penalties", "greedy"]


def test_stages_carry_their_arguments() -> None:
    chain = stages(SamplingParams(repeat_penalty=1.1, presence_penalty=0.2, top_k=5, temperature=0.5), seed=9)
    assert chain == (
        Stage("penalties", (1.1, 0.0, 0.2)),
        Stage("top_k", (5,)),
        Stage("temperature", (0.5,)),
        Stage("draw", (9,)),
    )


@given(
    st.lists(st.floats(-80, 80, width=32), min_size=25, max_size=200), st.integers(0, 24), st.integers(0, 20)
)
def test_logprobs_are_the_log_softmax(values: list[float], token: int, top: int) -> None:
    logits = np.array(values, np.float32)
    exact = logits.astype(np.float64)
    exact -= np.log(np.exp(exact - exact.max()).sum()) + exact.max()
    result = logprobs(logits, token, top, lambda t: b"%d" % t)
    assert (result.token, result.raw) == (token, b"%d" % token)
    assert result.logprob == pytest.approx(exact[token], abs=1e-5)
    assert [rival.logprob for rival in result.top] == pytest.approx(
        sorted(exact, reverse=True)[:top], abs=1e-5
    )
    assert all(rival.logprob == pytest.approx(exact[rival.token], abs=1e-5) for rival in result.top)
    assert len({rival.token for rival in result.top}) == top


@given(st.integers(0, 2**32 - 1), st.integers(1, 3000), st.integers(0, 20))
def test_the_likeliest_tokens_of_any_vocabulary(seed: int, size: int, count: int) -> None:
    logits = np.random.default_rng(seed).permutation(size).astype(np.float32)
    count = min(count, size)
    assert likeliest(logits, count) == np.argsort(logits)[::-1][:count].tolist()


def test_more_rivals_than_tokens_are_all_tokens() -> None:
    result = logprobs(np.array([1.0, 3.0, 2.0], np.float32), 0, 20, lambda t: b"")
    assert [rival.token for rival in result.top] == [1, 2, 0]
