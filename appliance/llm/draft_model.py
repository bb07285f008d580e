"""Drafting by a small model with the same vocabulary: it writes ahead, the large one checks.

Owns the small model's KV cache: a sequence of it for each of those that are written ahead for, brought up to
date when its next draft is asked for. Prompts it has to read too, a piece at a time, so that nobody's gap
grows by a whole one. What it costs the large model's streams is the engine's business, which asks it only
while few of them run.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from appliance.errors import InternalError
from appliance.llm.backend import Backend, Logits, Span
from appliance.llm.draft import Pace
from appliance.llm.prefix import common_length

log = logging.getLogger("hearth.generator")

SURE = 0.4  # a token less likely than that is seldom the large model's, too
READ_AT_ONCE = 64  # prompt tokens between two steps of the large model


class DraftModel:
    """The small model, shared by all drafters that it `start`s."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._free = list(range(backend.sequences - 1, -1, -1))
        self._held: dict[int, list[int]] = {}  # by sequence, the tokens that its cache holds
        self._is_lost = False

    def start(self, tokens: Sequence[int]) -> ModelDrafter:
        return ModelDrafter(self)

    def open(self) -> int | None:
        """A cache sequence, if there is one left."""
        if not self._free:
            return None
        sequence = self._free.pop()
        self._held[sequence] = []
        return sequence

    def release(self, sequence: int) -> None:
        self._shorten(sequence, 0)
        del self._held[sequence]
        self._free.append(sequence)

    def write_ahead(self, sequence: int, tokens: Sequence[int], count: int) -> list[int]:
        """Up to `count` tokens that are likely to follow `tokens`; empty as long as the model reads."""
        try:
            return self._write_ahead(sequence, tokens, count)
        except InternalError as error:
            if not self._is_lost:
                log.warning("nothing is drafted any more: the draft model fails: %s", error.message)
            self._is_lost = True
            return []

    def _write_ahead(self, sequence: int, tokens: Sequence[int], count: int) -> list[int]:
        known = min(common_length(self._held[sequence], tokens), len(tokens) - 1)
        if self._is_lost or self._cells_for(sequence) < len(tokens) + count:
            return []
        self._shorten(sequence, known)
        pending = list(tokens[known:])
        if len(pending) > READ_AT_ONCE:
            self._compute(sequence, pending[:READ_AT_ONCE], 0)
            return []
        draft: list[int] = []
        while len(draft) < count:
            self._compute(sequence, pending, 1)
            token = _surest(self._backend.logits(0))
            if token is None or self._backend.vocabulary.ends_generation(token):
                break
            draft.append(token)
            pending = [token]
        return draft

    def _compute(self, sequence: int, tokens: list[int], rows: int) -> None:
        held = self._held[sequence]
        self._backend.decode([Span(sequence, len(held), tokens, rows)])
        held += tokens

    def _shorten(self, sequence: int, length: int) -> None:
        held = self._held[sequence]
        if len(held) > length:
            self._backend.forget(sequence, length)
            del held[length:]

    def _cells_for(self, sequence: int) -> int:
        """As many as the others leave."""
        others = sum(len(held) for each, held in self._held.items() if each != sequence)
        return self._backend.cells - others

    def close(self) -> None:
        self._backend.close()


class ModelDrafter:
    """Drafts for one sequence; takes a cache sequence of the model when it is first asked."""

    def __init__(self, model: DraftModel) -> None:
        self._model = model
        self._pace = Pace()
        self._sequence: int | None = None

    def propose(self, tokens: Sequence[int], at_most: int) -> list[int]:
        if (count := self._pace.allow(at_most)) <= 0:
            return []
        if self._sequence is None:
            self._sequence = self._model.open()
        return [] if self._sequence is None else self._model.write_ahead(self._sequence, tokens, count)

    def learn(self, drafted: int, confirmed: int) -> None:
        self._pace.learn(drafted, confirmed)

    def close(self) -> None:
        if self._sequence is not None:
            self._model.release(self._sequence)
            self._sequence = None


def _surest(logits: Logits) -> int | None:
    """The likeliest token, if it is likely enough to be drafted."""
    token = int(logits.argmax())
    return token if float(np.exp(logits - logits[token]).sum()) * SURE < 1.0 else None
