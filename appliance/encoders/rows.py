"""Rows of token ids, padded into the arrays a graph takes.

Knows nothing of text, models or queues.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Row:
    """One input of a model, special tokens included: int32 [length]. From `second` on it is a pair's second
    half, of token type `second_type`."""

    tokens: NDArray[np.int32]
    second: int
    second_type: int = 0

    def __len__(self) -> int:
        return len(self.tokens)


def single_row(tokens: Sequence[int]) -> Row:
    return Row(np.asarray(tokens, dtype=np.int32), len(tokens))


def pad(rows: Sequence[Row], pad_token: int, inputs: Collection[str]) -> dict[str, NDArray[np.int64]]:
    """The arrays that `inputs` names, each int64 [rows, longest row]; padding is masked out."""
    shape = (len(rows), max(len(row) for row in rows))
    tokens = np.full(shape, pad_token, np.int64)
    mask = np.zeros(shape, np.int64)
    types = np.zeros(shape, np.int64)
    for place, row in enumerate(rows):
        tokens[place, : len(row)] = row.tokens
        mask[place, : len(row)] = 1
        types[place, row.second : len(row)] = row.second_type
    arrays = {"input_ids": tokens, "attention_mask": mask, "token_type_ids": types}
    return {name: arrays[name] for name in inputs}
