"""What the next step computes: pure planning over sequences, slots and KV cells.

Verbs: `submit`, `plan`, `commit`, `finish`, `cancel`. The engine carries a plan out and commits it. There is
no thread, no clock and no native call here; ties go by arrival, ages by a step counter.

Invariants (held by tests/llm/test_scheduler.py):
- a cache sequence id is free, running or retained, never two of them;
- the ledger's used cells are exactly those of running and retained sequences;
- a step never exceeds `batch_tokens`, and every running sequence that decodes is in every step;
- a sequence that finished, was cancelled or was preempted holds nothing.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

import numpy as np

from appliance.errors import ConfigError, Overloaded
from appliance.llm.backend import Span
from appliance.llm.ledger import CellLedger, Cells
from appliance.llm.prefix import Holder, Match, best_match, common_length
from appliance.llm.sequence import NO_CELLS, Sequence

SHORTEST_SHARE = 8  # tokens; copying fewer saves less than the bookkeeping costs
HEADROOM = 16  # cells kept for each running sequence at an admission, so that it is not preempted at once
RETRY_AFTER = 1.0


class Share(NamedTuple):
    source: int
    target: int
    length: int


class Forget(NamedTuple):
    sequence: int
    start: int


class Retained(NamedTuple):
    """A finished sequence whose cells stay for whoever comes with the same beginning."""

    namespace: str
    tokens: list[int]
    cells: Cells


@dataclass
class Plan:
    """One step: cache changes in order, then one batch. `batch[i]` is computed by `spans[i]`."""

    changes: list[Share | Forget] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    batch: list[Sequence] = field(default_factory=list)
    admitted: list[Sequence] = field(default_factory=list)

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
    busy_prefill_tokens: int  # prefill share of a step while others decode: bounds their gaps
    queue_requests: int
    queue_tokens: int


class Scheduler:
    """Raises ConfigError for limits under which it could not keep its invariants."""

    def __init__(self, limits: Limits) -> None:
        if limits.slots > min(limits.batch_tokens, limits.sequences):
            raise ConfigError(
                f"generator.slots is {limits.slots}; it must not be more than generator.batch_tokens "
                f"({limits.batch_tokens}) and the engine's cache sequences ({limits.sequences})"
            )
        self.limits = limits
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self.retained: OrderedDict[int, Retained] = OrderedDict()  # oldest first
        self.ledger = CellLedger(limits.cells)
        self.preemptions = 0
        self._free_ids = list(range(limits.sequences - 1, -1, -1))
        self._queued_tokens = 0
        self._orphaned: list[Forget] = []  # cache changes that the next plan must carry out

    # Requests

    def submit(self, choices: list[Sequence]) -> None:
        """Queue the choices of one request. Raises Overloaded when the queue is full.

        Requests that the free slots will take at the next step do not count as waiting.
        """
        requests = len({sequence.request for sequence in self.waiting})
        tokens = sum(sequence.prompt_length for sequence in choices)
        if requests >= self.limits.queue_requests + self.limits.slots - len(self.running):
            raise Overloaded(f"the queue is full: {requests} requests are waiting", retry_after=RETRY_AFTER)
        if self.waiting and self._queued_tokens + tokens > self.limits.queue_tokens:
            raise Overloaded(
                f"the queue is full: {self._queued_tokens} prompt tokens are waiting and this request "
                f"has {tokens}; the limit is {self.limits.queue_tokens}",
                retry_after=RETRY_AFTER,
            )
        self.waiting.extend(choices)
        self._queued_tokens += tokens

    def cancel(self, request: int, *, retain: bool = True) -> list[Sequence]:
        """Take a request's sequences out, wherever they are; returns those that were still alive."""
        gone = [s for s in self if s.request == request]
        for sequence in gone:
            self.finish(sequence, retain=retain)
        return gone

    def finish(self, sequence: Sequence, *, retain: bool = True) -> None:
        """The sequence ends: its slot is free at once, its cells stay as long as nobody needs them.

        After a failed step nobody knows what the cache holds: then `retain` is false.
        """
        if sequence.slot is None:
            self.waiting.remove(sequence)
            self._queued_tokens -= sequence.prompt_length
            return
        self.running.remove(sequence)
        if retain and sequence.computed >= SHORTEST_SHARE:
            held = sequence.tokens[: sequence.computed]
            self.retained[sequence.slot] = Retained(sequence.namespace, held, sequence.cells)
            sequence.slot, sequence.cells, sequence.computed = None, NO_CELLS, 0
        else:
            self._release(sequence)

    @property
    def is_idle(self) -> bool:
        return not self.running and not self.waiting

    # Steps

    def plan(self) -> Plan:
        """The next step; empty when there is nothing to do."""
        plan = Plan()
        self._collect_orphans(plan)
        self._plan_decodes(plan)
        room = self.limits.batch_tokens - plan.tokens
        if plan.spans:
            room = min(room, self.limits.busy_prefill_tokens)
        room -= self._plan_prefills(plan, room)
        while room > 0 and (sequence := self._next_admissible()) is not None:
            if not self._admit(sequence, plan):
                break
            room -= self._plan_prefill(sequence, plan, room)
        self._collect_orphans(plan)
        return plan

    def commit(self, plan: Plan) -> None:
        """The plan's batch has been computed."""
        for sequence, span in zip(plan.batch, plan.spans, strict=True):
            sequence.computed += len(span.tokens)

    def trim(self, sequence: Sequence) -> None:
        """Give up what was computed beyond the confirmed tokens: a draft's wrong part."""
        valid = sequence.confirmed
        if sequence.computed > valid:
            assert sequence.slot is not None
            self.ledger.release(sequence.cells[valid:])
            sequence.cells, sequence.computed = sequence.cells[:valid], valid
            self._orphaned.append(Forget(sequence.slot, valid))

    def check(self) -> None:
        """The integrity check: raises AssertionError when a slot or a cell has leaked."""
        ids = [*self._free_ids, *self.retained, *(s.slot for s in self.running if s.slot is not None)]
        if sorted(ids) != list(range(self.limits.sequences)):
            raise AssertionError(f"cache sequences have leaked: {sorted(ids)}")
        held = [(s.cells, s.computed) for s in self.running]
        held += [(r.cells, len(r.tokens)) for r in self.retained.values()]
        for cells, length in held:
            if len(cells) != length:
                raise AssertionError(f"{len(cells)} cells are held for {length} computed tokens")
        self.ledger.check([cells for cells, _ in held])

    # Parts of a plan

    def _plan_decodes(self, plan: Plan) -> None:
        decoding = [s for s in self.running if not s.is_prefilling]
        while decoding and not self._make_room(sum(s.pending for s in decoding)):
            self._preempt(max(self.running, key=lambda s: (s.request, s.choice)))
            decoding = [s for s in self.running if not s.is_prefilling]
        known = sum(s.pending for s in decoding)
        for others_left, sequence in zip(range(len(decoding) - 1, -1, -1), decoding, strict=True):
            known -= sequence.pending
            room = self.limits.batch_tokens - plan.tokens - others_left
            self._add_span(sequence, min(sequence.pending, room), plan, reserved=known)

    def _plan_prefills(self, plan: Plan, room: int) -> int:
        planned = 0
        for sequence in [s for s in self.running if s.is_prefilling]:
            if planned >= room:
                break
            if sequence.slot is not None:  # not preempted just now, by the one before it
                planned += self._plan_prefill(sequence, plan, room - planned)
        return planned

    def _plan_prefill(self, sequence: Sequence, plan: Plan, room: int) -> int:
        count = min(sequence.pending, room)
        if not self._make_room(count):
            count = self.ledger.free
        if count > 0:
            self._add_span(sequence, count, plan)
        elif not plan.spans:
            # Nothing can be computed at all: give way to those who came earlier.
            self._preempt(max(self.running, key=lambda s: (s.request, s.choice)))
        return count

    def _add_span(self, sequence: Sequence, count: int, plan: Plan, reserved: int = 0) -> None:
        """Compute the sequence's next `count` tokens, and its draft behind them where there is room.

        `reserved`: tokens of others in this step that come before any draft.
        """
        assert sequence.slot is not None
        end = sequence.computed + count
        reaches_end = end == len(sequence.tokens)
        room = min(self.ledger.free, self.limits.batch_tokens - plan.tokens) - count - reserved
        sequence.draft = sequence.draft[: max(0, room)] if reaches_end else []
        tokens = sequence.tokens[sequence.computed : end] + sequence.draft
        sequence.cells = _joined(sequence.cells, self.ledger.take(len(tokens)))
        rows = 1 + len(sequence.draft) if reaches_end else 0
        plan.spans.append(Span(sequence.slot, sequence.computed, tokens, rows))
        plan.batch.append(sequence)

    # Admission

    def _next_admissible(self) -> Sequence | None:
        """The first waiting sequence that gains nothing by waiting for a running prefill.

        Several requests with one new, long beginning arrive together: the first computes it, the others
        wait for it and share it, which is faster for all of them than computing it side by side.
        """
        if len(self.running) >= self.limits.slots:
            return None
        for sequence in islice(self.waiting, self.limits.slots):
            if not self._has_leader(sequence):
                return sequence
        return None

    def _has_leader(self, sequence: Sequence) -> bool:
        usable = len(sequence.tokens) - 1
        available = self._match(sequence)
        already = available.length if available else 0
        for other in self.running:
            if not other.is_prefilling or other.namespace != sequence.namespace:
                continue
            common = min(common_length(sequence.tokens, other.tokens), usable)
            if common > max(already, other.computed) and common >= SHORTEST_SHARE:
                return True
        return False

    def _match(self, sequence: Sequence) -> Match | None:
        space = sequence.namespace
        holders = [
            Holder(slot, held.tokens, len(held.tokens))
            for slot, held in self.retained.items()
            if held.namespace == space
        ]
        holders += [
            Holder(s.slot, s.tokens, s.computed)
            for s in self.running
            if s.slot is not None and s.namespace == space
        ]
        match = best_match(sequence.tokens, holders)
        if match is None:
            return None
        # The last token is always computed: its logits choose the first new token.
        length = min(match.length, len(sequence.tokens) - 1)
        return Match(match.holder, length) if length >= SHORTEST_SHARE else None

    def _admit(self, sequence: Sequence, plan: Plan) -> bool:
        """Make `sequence` run, if it and all that run already will fit. Evicts nothing if not."""
        match = self._match(sequence)
        length = match.length if match else 0
        promised = sum(s.pending + HEADROOM for s in self.running)
        needed = len(sequence.tokens) - length + promised
        shared = self._cells_of(match.holder)[:length] if match else NO_CELLS
        if self.ledger.size - self.ledger.distinct([shared, *(s.cells for s in self.running)]) < needed:
            return False
        sequence.slot, sequence.cells = self._open(match, needed, plan)
        sequence.computed = length
        if not sequence.admitted:
            sequence.admitted, sequence.cached = True, length
            plan.admitted.append(sequence)
        self.waiting.remove(sequence)
        self._queued_tokens -= sequence.prompt_length
        self.running.append(sequence)
        return True

    def _open(self, match: Match | None, needed: int, plan: Plan) -> tuple[int, Cells]:
        """A cache sequence with the matched tokens in it, and `needed` free cells."""
        holder = match.holder if match else None
        self._make_room(needed, holder)  # where that is not enough, the holder's own tail goes when needed
        used_up = match is not None and self._is_used_up(match)
        if not used_up and not self._free_ids:
            self._evict(holder)
        self._collect_orphans(plan)
        if match is None:
            return self._free_ids.pop(), NO_CELLS
        if used_up or not self._free_ids:
            return match.holder, self._take_over(match, plan)
        if match.holder in self.retained:
            self.retained.move_to_end(match.holder)
        slot = self._free_ids.pop()
        plan.changes.append(Share(match.holder, slot, match.length))
        return slot, self.ledger.share(self._cells_of(match.holder)[: match.length])

    def _is_used_up(self, match: Match) -> bool:
        """Whether the match is all of a retained sequence, as in a conversation's next turn."""
        return match.holder in self.retained and len(self.retained[match.holder].tokens) == match.length

    def _take_over(self, match: Match, plan: Plan) -> Cells:
        """Turn a retained sequence into a running one; what it has beyond the match is given up."""
        held = self.retained.pop(match.holder)
        self.ledger.release(held.cells[match.length :])
        plan.changes.append(Forget(match.holder, match.length))
        return held.cells[: match.length]

    def _cells_of(self, slot: int) -> Cells:
        if slot in self.retained:
            return self.retained[slot].cells
        return next(s.cells for s in self.running if s.slot == slot)

    # Room

    def _make_room(self, count: int, keep: int | None = None) -> bool:
        """Evict retained sequences, oldest first, until `count` cells are free."""
        while self.ledger.free < count:
            if not self._evict(keep):
                return False
        return True

    def _evict(self, keep: int | None = None) -> bool:
        victim = next((slot for slot in self.retained if slot != keep), None)
        if victim is None:
            return False
        self._drop(victim, self.retained.pop(victim).cells)
        return True

    def _preempt(self, sequence: Sequence) -> None:
        """Back to the head of the queue; what it had generated is computed again when there is room."""
        self.preemptions += 1
        sequence.draft = []
        self.running.remove(sequence)
        self._release(sequence)
        self.waiting.appendleft(sequence)
        self._queued_tokens += sequence.prompt_length

    def _release(self, sequence: Sequence) -> None:
        assert sequence.slot is not None
        self._drop(sequence.slot, sequence.cells)
        sequence.slot, sequence.cells, sequence.computed = None, NO_CELLS, 0

    def _drop(self, slot: int, cells: Cells) -> None:
        self.ledger.release(cells)
        self._free_ids.append(slot)
        self._orphaned.append(Forget(slot, 0))

    def _collect_orphans(self, plan: Plan) -> None:
        plan.changes.extend(self._orphaned)
        self._orphaned.clear()

    def __iter__(self) -> Iterator[Sequence]:
        yield from self.running
        yield from self.waiting


def _joined(left: Cells, right: Cells) -> Cells:
    if not len(left):
        return right
    joined: Cells = np.concatenate((left, right))
    return joined
