"""Which sampler stages a request asks for, and log-probabilities from raw logits.

This module decides; the stages themselves are native and built by `sampler`. The order of stages is that
of llama.cpp's own default chain: bias, penalties, then truncation from the coarsest to the finest, then
temperature, then the draw.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

from appliance.llm.backend import Logits
from appliance.records import SamplingParams, TokenLogprob

PENALTY_WINDOW = 4096  # tokens that penalties look back on; OpenAI's cover the whole answer

BLOCK = 128  # tokens that `likeliest` looks at together first

StageName = Literal["logit_bias", "penalties", "top_k", "top_p", "min_p", "temperature", "draw", "greedy"]


class Stage(NamedTuple):
    name: StageName
    arguments: tuple[float, ...] = ()


def stages(params: SamplingParams, seed: int) -> tuple[Stage, ...]:
    """The native stages for these parameters; those that would change nothing are left out."""
    chosen: list[Stage] = []
    if params.logit_bias:
        chosen.append(Stage("logit_bias"))
    if params.repeat_penalty != 1.0 or params.frequency_penalty != 0.0 or params.presence_penalty != 0.0:
        chosen.append(
            Stage("penalties", (params.repeat_penalty, params.frequency_penalty, params.presence_penalty))
        )
    if params.temperature == 0.0:
        return (*chosen, Stage("greedy"))
    if params.top_k > 0:
        chosen.append(Stage("top_k", (params.top_k,)))
    if params.top_p < 1.0:
        chosen.append(Stage("top_p", (params.top_p,)))
    if params.min_p > 0.0:
        chosen.append(Stage("min_p", (params.min_p,)))
    if params.temperature != 1.0:
        chosen.append(Stage("temperature", (params.temperature,)))
    return (*chosen, Stage("draw", (seed,)))


def logprobs(logits: Logits, token: int, top: int, raw: Callable[[int], bytes]) -> TokenLogprob:
    """The log-softmax of `logits` [vocabulary] at `token`, with its `top` most likely rivals, best first.

    These are the model's own probabilities, before bias, penalties and temperature, as OpenAI reports them.
    """
    peak = float(logits.max())
    normaliser = peak + float(np.log(np.exp(logits - peak).sum(dtype=np.float64)))
    rivals = tuple(
        TokenLogprob(token=t, raw=raw(t), logprob=float(logits[t]) - normaliser)
        for t in likeliest(logits, min(top, len(logits)))
    )
    return TokenLogprob(token=token, raw=raw(token), logprob=float(logits[token]) - normaliser, top=rivals)


def likeliest(logits: Logits, count: int) -> list[int]:
    """The `count` tokens with the highest logits, best first.

    The best `count` tokens lie in the `count` blocks with the highest maxima; only those are searched.
    """
    if count == 0:
        return []
    places = np.arange(len(logits))
    blocks = len(logits) // BLOCK
    if blocks > count:
        maxima = logits[: blocks * BLOCK].reshape(blocks, BLOCK).max(axis=1)
        best_blocks = np.argpartition(maxima, -count)[-count:]
        whole = places[: blocks * BLOCK].reshape(blocks, BLOCK)[best_blocks].ravel()
        places = np.concatenate((whole, places[blocks * BLOCK :]))
    values = logits[places]
    best = np.argpartition(values, -count)[-count:]
    tokens: list[int] = places[best[np.argsort(values[best])[::-1]]].tolist()
    return tokens
