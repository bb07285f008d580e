"""Native sampler chains: how one sequence's tokens are drawn from a step's logits.

Which stages a chain has is `sampling`'s decision.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from appliance.llm import sampling
from appliance.llm.backend import Logits
from appliance.llm.bindings import llama
from appliance.llm.vocabulary import LlamaVocabulary
from appliance.records import SamplingParams


class Rows(Protocol):
    """The logits of a context's last decode, and the context itself, which native samplers read."""

    context: object
    vocabulary: LlamaVocabulary

    def logits(self, row: int) -> Logits: ...

    def batch_index(self, row: int) -> int: ...


class LlamaSampler:
    """A native sampler chain of one sequence; plain greedy choice needs none and takes the argmax."""

    def __init__(self, rows: Rows, params: SamplingParams, seed: int) -> None:
        self._rows = rows
        plan = sampling.stages(params, seed)
        self.is_memoryless = all(stage.name != "penalties" for stage in plan)
        is_plain = plan == (sampling.Stage("greedy"),)
        self._chain = None if is_plain else self._build(plan, params)

    def _build(self, plan: Sequence[sampling.Stage], params: SamplingParams) -> object:
        chain = llama.llama_sampler_chain_init(llama.llama_sampler_chain_default_params())
        size = self._rows.vocabulary.size
        for stage in plan:
            match stage.name:
                case "logit_bias":
                    pairs = [llama.llama_logit_bias(token, bias) for token, bias in params.logit_bias.items()]
                    array = (llama.llama_logit_bias * len(pairs))(*pairs)
                    native = llama.llama_sampler_init_logit_bias(size, len(pairs), array)
                case "penalties":
                    native = llama.llama_sampler_init_penalties(
                        size, sampling.PENALTY_WINDOW, *stage.arguments
                    )
                case "top_k":
                    native = llama.llama_sampler_init_top_k(int(stage.arguments[0]))
                case "top_p":
                    native = llama.llama_sampler_init_top_p(stage.arguments[0], 1)
                case "min_p":
                    native = llama.llama_sampler_init_min_p(stage.arguments[0], 1)
                case "temperature":
                    native = llama.llama_sampler_init_temp(stage.arguments[0])
                case "draw":
                    # The default seed is llama.cpp's word for "any", which would not be reproducible.
                    seed = int(stage.arguments[0]) % llama.LLAMA_DEFAULT_SEED
                    native = llama.llama_sampler_init_dist(seed)
                case "greedy":
                    native = llama.llama_sampler_init_greedy()
            llama.llama_sampler_chain_add(chain, native)
        return chain

    def pick(self, row: int) -> int:
        if self._chain is None:
            return int(self._rows.logits(row).argmax())
        return int(llama.llama_sampler_sample(self._chain, self._rows.context, self._rows.batch_index(row)))

    def accept(self, token: int) -> None:
        if self._chain is not None:
            llama.llama_sampler_accept(self._chain, token)

    def close(self) -> None:
        if self._chain is not None:
            llama.llama_sampler_free(self._chain)
            self._chain = None
