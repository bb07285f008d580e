"""What one step does: changes to the KV cache in order, then one batch.

Plain data between the scheduler, which plans it, and the engine, which carries it out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from appliance.llm.backend import Span
from appliance.llm.blocks import Block
from appliance.llm.sequence import Sequence


class Share(NamedTuple):
    """Cache sequence `target` uses the first `length` cells of `source` too."""

    source: int
    target: int
    length: int


class Forget(NamedTuple):
    """The cache sequence gives up its cells from position `start` on."""

    sequence: int
    start: int


class Save(NamedTuple):
    """The keys and values at [start, start + length) go from the cache into a stored block."""

    sequence: int
    start: int
    length: int
    block: Block


class Restore(NamedTuple):
    """A stored block goes into the cache, at `start` of the sequence in `slot`.

    `Scheduler.restored` is told what became of it.
    """

    sequence: Sequence
    slot: int
    start: int
    length: int
    block: Block


Change = Share | Forget | Save | Restore


@dataclass
class Plan:
    """One step. `batch[i]` is computed by `spans[i]`; `begun` are those computed for the first time."""

    changes: list[Change] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    batch: list[Sequence] = field(default_factory=list)
    begun: list[Sequence] = field(default_factory=list)

    @property
    def tokens(self) -> int:
        return sum(len(span.tokens) for span in self.spans)

    def by_adapter(self) -> list[Plan]:
        """The batch as one batch for each adapter in it: llama.cpp applies one to a whole batch."""
        parts: dict[str, Plan] = {}
        for sequence, span in zip(self.batch, self.spans, strict=True):
            part = parts.setdefault(sequence.adapter, Plan())
            part.batch.append(sequence)
            part.spans.append(span)
        return list(parts.values())


@dataclass(frozen=True)
class Limits:
    slots: int
    cells: int
    sequences: int  # cache sequence ids: running and retained together
    batch_tokens: int
    busy_prefill_tokens: int  # what a step prefills while more decode than wait: bounds their gaps
    queue_requests: int
    queue_tokens: int
    busy_copy_bytes: int = 16 * 1024 * 1024  # stored blocks moved in a step while others decode
