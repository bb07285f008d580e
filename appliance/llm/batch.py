"""What one decode computes, in the arrays that llama.cpp reads."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np

from appliance.errors import ConfigError
from appliance.llm.backend import Span
from appliance.llm.bindings import llama


class LlamaBatch:
    """One llama_batch over arrays of our own, refilled every step without allocating."""

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ConfigError("generator.batch_tokens must be at least 1")
        self._tokens = np.zeros(capacity, np.int32)
        self._positions = np.zeros(capacity, np.int32)
        self._counts = np.ones(capacity, np.int32)
        self._sequences = np.zeros(capacity, np.int32)
        self._wanted = np.zeros(capacity, np.int8)
        base, width = self._sequences.ctypes.data, self._sequences.itemsize
        self._pointers = (ctypes.POINTER(ctypes.c_int32) * capacity)(
            *(ctypes.cast(base + index * width, ctypes.POINTER(ctypes.c_int32)) for index in range(capacity))
        )
        batch = self.native = llama.llama_batch()
        batch.token = self._tokens.ctypes.data_as(ctypes.POINTER(ctypes.c_int32))
        batch.pos = self._positions.ctypes.data_as(ctypes.POINTER(ctypes.c_int32))
        batch.n_seq_id = self._counts.ctypes.data_as(ctypes.POINTER(ctypes.c_int32))
        batch.seq_id = self._pointers
        batch.logits = self._wanted.ctypes.data_as(ctypes.POINTER(ctypes.c_int8))

    def fill(self, spans: Sequence[Span]) -> list[int]:
        """Lays the spans out one behind the other; returns the indices of the wanted logits."""
        at = 0
        rows: list[int] = []
        for span in spans:
            end = at + len(span.tokens)
            self._tokens[at:end] = span.tokens
            self._positions[at:end] = range(span.start, span.start + len(span.tokens))
            self._sequences[at:end] = span.sequence
            self._wanted[at:end] = 0
            if span.rows:
                self._wanted[end - span.rows : end] = 1
                rows.extend(range(end - span.rows, end))
            at = end
        self.native.n_tokens = at
        return rows
