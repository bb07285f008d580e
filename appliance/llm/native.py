"""llama.cpp behind the `Backend` seam: a context of a model, with one KV cache for all of its sequences.

It does not schedule, does not know requests, and holds no policy. Native memory is freed in `close`, the
model last.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Sequence

import numpy as np

from appliance.errors import InternalError, SetupError
from appliance.launch import GeneratorOrder
from appliance.llm import zero_pages
from appliance.llm.backend import Content, Logits, Span
from appliance.llm.batch import LlamaBatch
from appliance.llm.bindings import llama, why
from appliance.llm.cores import FreeCores, usable_cores
from appliance.llm.model import LlamaModel
from appliance.llm.sampler import LlamaSampler
from appliance.records import SamplingParams

CACHE_TYPES = {"f16": llama.GGML_TYPE_F16, "q8_0": llama.GGML_TYPE_Q8_0}
FLASH_ATTENTION = {
    "auto": llama.LLAMA_FLASH_ATTN_TYPE_AUTO,
    "on": llama.LLAMA_FLASH_ATTN_TYPE_ENABLED,
    "off": llama.LLAMA_FLASH_ATTN_TYPE_DISABLED,
}
CACHE_SEEN = 0.9  # of a new cache's bytes: its pages at both ends may be others' as well


class LlamaBackend:
    """A model and its context; or, with `beside`, one more context of the model that another has loaded.

    Raises SetupError when the model cannot be loaded or its cache does not fit.
    """

    def __init__(
        self,
        order: GeneratorOrder,
        cells: int,
        progress: Callable[[float], None],
        beside: LlamaBackend | None = None,
    ) -> None:
        self._owns_model = beside is None
        self.model: LlamaModel = LlamaModel(order, progress) if beside is None else beside.model
        self.vocabulary = self.model.vocabulary
        self.cells = cells
        most_sequences = min(int(llama.llama_max_parallel_sequences()), max(65, 2 * order.slots + 1))
        self.sequences = most_sequences - 1
        self._passage = self.sequences  # the sequence through which stored blocks go in and out
        self.batch_tokens = min(order.batch_tokens, cells)
        threads = order.threads or usable_cores()
        params = llama.llama_context_default_params()
        params.n_ctx = cells
        params.n_batch = params.n_ubatch = self.batch_tokens
        params.n_seq_max = most_sequences
        params.n_outputs_max = most_sequences  # llama.cpp wants room for one output per sequence
        params.n_threads = params.n_threads_batch = threads
        params.kv_unified = True
        params.type_k = params.type_v = CACHE_TYPES[order.cache_type]
        params.flash_attn_type = FLASH_ATTENTION[order.flash_attention]
        params.no_perf = True
        # What is computed apart must be rounded alike every time, and sums are split by threads.
        self._cores = FreeCores(threads) if beside is None else None
        with zero_pages.handed_back(least=int(cells * order.cell_bytes * CACHE_SEEN)):
            self.context = llama.llama_init_from_model(self.model.native, params)
        if not self.context:
            if self._owns_model:
                self.model.close()
            raise SetupError(f"no memory for a cache of {cells} tokens: {why()}")
        self._adapter = ""
        self._memory = llama.llama_get_memory(self.context)
        self._batch = LlamaBatch(self.batch_tokens)
        self._rows: list[int] = []
        self._table: Logits | None = None  # every row of the last decode

    def use(self, adapter: str) -> None:
        if adapter == self._adapter:
            return
        chosen = [self.model.adapters[adapter]] if adapter else []
        natives = (llama.llama_adapter_lora_p_ctypes * len(chosen))()
        for index, (native, _) in enumerate(chosen):
            natives[index] = ctypes.cast(native, llama.llama_adapter_lora_p_ctypes)
        scales = (ctypes.c_float * len(chosen))(*(scale for _, scale in chosen))
        status = llama.llama_set_adapters_lora(self.context, natives, len(chosen), scales)
        if status != 0:
            raise InternalError(f"llama_set_adapters_lora answered {status} for {adapter!r}")
        self._adapter = adapter

    def decode(self, spans: Sequence[Span]) -> None:
        self._table = None
        self._rows = self._batch.fill(spans)
        begun = time.monotonic()
        status = llama.llama_decode(self.context, self._batch.native)
        if status != 0:
            raise InternalError(f"llama_decode answered {status} for {self._batch.native.n_tokens} tokens")
        if self._cores is not None and self._cores.computed(time.monotonic() - begun):
            llama.llama_set_n_threads(self.context, self._cores.count, self._cores.count)

    def batch_index(self, row: int) -> int:
        """Where the `row`-th requested logits stand in the batch of the last decode."""
        return self._rows[row]

    def logits(self, row: int) -> Logits:
        if self._table is None:
            pointer = llama.llama_get_logits(self.context)
            self._table = np.ctypeslib.as_array(pointer, shape=(len(self._rows), self.vocabulary.size))
        view: Logits = self._table[row]
        return view

    def sampler(self, params: SamplingParams, seed: int) -> LlamaSampler:
        return LlamaSampler(self, params, seed)

    def share(self, source: int, target: int, length: int) -> None:
        llama.llama_memory_seq_cp(self._memory, source, target, 0, length)

    def forget(self, sequence: int, start: int = 0) -> None:
        if not llama.llama_memory_seq_rm(self._memory, sequence, start, -1):
            raise InternalError(f"the cache cannot forget sequence {sequence} from position {start}")

    def length(self, sequence: int) -> int:
        return int(llama.llama_memory_seq_pos_max(self._memory, sequence)) + 1

    def save(self, sequence: int, start: int, length: int) -> Content:
        llama.llama_memory_seq_cp(self._memory, sequence, self._passage, start, start + length)
        try:
            size = llama.llama_state_seq_get_size(self.context, self._passage)
            content = np.empty(size, np.uint8)
            written = llama.llama_state_seq_get_data(self.context, _bytes(content), size, self._passage)
            if written != size:
                raise InternalError(f"llama.cpp wrote {written} bytes of a state of {size}")
            return content
        finally:
            llama.llama_memory_seq_rm(self._memory, self._passage, -1, -1)

    def restore(self, sequence: int, start: int, length: int, content: Content) -> bool:
        read = llama.llama_state_seq_set_data(self.context, _bytes(content), len(content), self._passage)
        if read == len(content):
            llama.llama_memory_seq_cp(self._memory, self._passage, sequence, start, start + length)
        llama.llama_memory_seq_rm(self._memory, self._passage, -1, -1)
        return bool(read == len(content)) and self.length(sequence) == start + length

    def close(self) -> None:
        llama.llama_free(self.context)
        if self._owns_model:
            self.model.close()


def _bytes(content: Content) -> object:
    return content.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
