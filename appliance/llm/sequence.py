"""One choice of one request, from its admission to its end: its tokens, and how far the cache has them.

Owned by the engine's thread. It does not know how tokens are computed, chosen or sent.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from appliance.llm.backend import Sampler
from appliance.llm.blocks import Block
from appliance.llm.circles import Circles
from appliance.llm.constraint import Constrained
from appliance.llm.dialects.stream import AnswerStream
from appliance.llm.draft import Drafter
from appliance.llm.ledger import Cells
from appliance.records import SamplingParams, SchedulingClass

NO_CELLS: Cells = np.zeros(0, np.int32)


# A sequence with up to this many known but uncomputed tokens is decoding: its last one and those that a
# constraint has forced behind it.
LONGEST_BURST = 32


class Sequence:
    """`tokens[:computed]` stand in the cache, in cache sequence `slot`, and hold `cells`."""

    def __init__(
        self,
        *,
        request: int,
        choice: int,
        prompt: list[int],
        sampling: SamplingParams,
        seed: int,
        limit: int,
        constraint: Constrained | None = None,
        drafter: Drafter | None = None,
        circles: Circles | None = None,
        answer: AnswerStream | None = None,
        namespace: str = "",
        owner: str = "",
        scheduling_class: SchedulingClass = "default",
        adapter: str = "",
    ) -> None:
        self.request = request
        self.choice = choice
        self.tokens = list(prompt)
        self.prompt_length = len(prompt)
        self.sampling = sampling
        self.seed = seed
        self.limit = limit  # tokens, prompt included, at which the answer ends with "length"
        self.adapter = adapter  # a batch holds sequences of one adapter only
        self.slot: int | None = None
        self.computed = 0
        self.confirmed = 0  # after a step: tokens that the cache may hold; beyond them it has wrong drafts
        self.has_caught_up = False  # since it was admitted, its last known token has been computed once
        self.restoring: deque[Block] = deque()  # stored blocks that come back before anything is computed
        self.cached = 0  # prompt tokens that needed no computing
        self.cells = NO_CELLS
        self.sampler: Sampler | None = None
        self.constraint = constraint
        self.circles = circles  # None: the text may repeat itself as long as it likes
        self.went_in_circles = False
        self.drafter = drafter
        self.draft: list[int] = []  # guesses at the tokens behind the last one, computed along with it
        self.answer = answer or AnswerStream(sampling.stop)
        self.begun = False  # has ever been in a step: its Started event is out
        self.namespace = namespace  # only sequences of one namespace share cells and blocks
        self.owner = owner
        self.scheduling_class = scheduling_class

    @property
    def pending(self) -> int:
        """Tokens that are known but not in the cache yet; 1 for a sequence that is decoding."""
        return len(self.tokens) - self.computed

    @property
    def generated(self) -> int:
        return len(self.tokens) - self.prompt_length

    @property
    def is_prefilling(self) -> bool:
        return self.pending > LONGEST_BURST or not self.has_caught_up

    @property
    def room(self) -> int:
        """Tokens that may still come."""
        return self.limit - len(self.tokens)
