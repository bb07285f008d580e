"""What the next step computes: pure planning over sequences, slots and KV cells.

Verbs: `submit`, `plan`, `commit`, `restored`, `finish`, `cancel`. The engine carries a plan out and commits
it. There is no thread, no clock and no native call here; who is next is the fair queue's word, and what the
cache holds is in the books of `KvCache`.

Invariants (held by tests/llm/test_scheduler.py):
- a cache sequence id is free, running or retained, never two of them;
- the ledger's used cells are exactly those of running and retained sequences;
- a step never exceeds `batch_tokens`, and every running sequence that decodes is in every step;
- a sequence that finished, was cancelled or was preempted holds nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from appliance.errors import ConfigError, Overloaded
from appliance.llm.backend import Span
from appliance.llm.blocks import BlockTree
from appliance.llm.fair_queue import WEIGHTS, FairQueue
from appliance.llm.kv_cache import SHORTEST_SHARE, Beginning, KvCache
from appliance.llm.ledger import CellLedger
from appliance.llm.plan import Limits, Plan, Restore
from appliance.llm.prefix import common_length
from appliance.llm.sequence import Sequence

HEADROOM = 16  # cells kept for each running sequence at an admission, so that it is not preempted at once
RETRY_AFTER = 1.0
PAUSABLE = ("batch", "flex")  # classes that give way to higher ones in the middle of an answer


class Scheduler:
    """Raises ConfigError for limits under which it could not keep its invariants."""

    def __init__(self, limits: Limits, tree: BlockTree | None = None) -> None:
        if limits.slots > min(limits.batch_tokens, limits.sequences):
            raise ConfigError(
                f"generator.slots is {limits.slots}; it must not be more than generator.batch_tokens "
                f"({limits.batch_tokens}) and the engine's cache sequences ({limits.sequences})"
            )
        self.limits = limits
        self.waiting = FairQueue()
        self.running: list[Sequence] = []
        self.tree = tree or BlockTree()
        self.cache = KvCache(limits.cells, limits.sequences, self.tree)
        self.preemptions = 0
        self._is_blocked = False  # the next one waiting has no room; until something ends or comes

    # Requests

    def submit(self, choices: list[Sequence]) -> None:
        """Queue the choices of one request. Raises Overloaded when the queue is full.

        Requests that the free slots will take at the next step do not count as waiting.
        """
        requests = len({sequence.request for sequence in self.waiting})
        tokens = sum(sequence.prompt_length for sequence in choices)
        if requests >= self.limits.queue_requests + self.limits.slots - len(self.running):
            raise Overloaded(f"the queue is full: {requests} requests are waiting", retry_after=RETRY_AFTER)
        if requests and self.waiting.tokens + tokens > self.limits.queue_tokens:
            raise Overloaded(
                f"the queue is full: {self.waiting.tokens} prompt tokens are waiting and this request "
                f"has {tokens}; the limit is {self.limits.queue_tokens}",
                retry_after=RETRY_AFTER,
            )
        for sequence in choices:
            self.waiting.add(sequence)
        self._is_blocked = False

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
        self._is_blocked = False
        if sequence.slot is None:
            self.waiting.remove(sequence)
            return
        self.running.remove(sequence)
        self.waiting.settle(sequence)
        if retain:
            self.cache.retain(sequence)
        else:
            self.cache.release(sequence)

    def places(self) -> dict[int, int]:
        """How many requests are before each waiting one."""
        places: dict[int, int] = {}
        for sequence in self.waiting:
            places.setdefault(sequence.request, len(places))
        return places

    @property
    def is_idle(self) -> bool:
        return not self.running and not len(self.waiting)

    # Steps

    def plan(self) -> Plan:
        """The next step; empty when there is nothing to do."""
        plan = Plan()
        self._pause_lower()
        self._plan_decodes(plan)
        self._admit_some()
        self.cache.lighten()
        self._plan_restores(plan)
        self._plan_prefills(plan, self._prefill_room(plan))
        plan.changes = self.cache.take_changes()
        return plan

    def plan_idle(self) -> Plan:
        """What is worth doing while nobody asks for anything: copy what is retained to stored blocks."""
        if self.cache.has_unsaved:
            self.cache.save_some()
        return Plan(changes=self.cache.take_changes())

    def commit(self, plan: Plan) -> None:
        """The plan's batch has been computed."""
        for sequence, span in zip(plan.batch, plan.spans, strict=True):
            if sequence.is_prefilling:
                self._is_blocked = False  # there is more to share now
            sequence.computed += len(span.tokens)
            sequence.has_caught_up = sequence.has_caught_up or span.rows > 0

    def restored(self, change: Restore, *, is_whole: bool) -> None:
        """A block has been brought back; or it could not be, and what it held must be computed."""
        sequence = change.sequence
        if sequence.slot != change.slot or not sequence.restoring or sequence.computed != change.start:
            return  # a block before it was lost already
        if is_whole:
            sequence.restoring.popleft()
            sequence.computed += change.length
        else:
            sequence.restoring.clear()
            self.cache.shorten(sequence, sequence.computed)

    def trim(self, sequence: Sequence) -> None:
        """Give up what was computed beyond the confirmed tokens: a draft's wrong part."""
        if sequence.computed > sequence.confirmed:
            self.cache.shorten(sequence, sequence.confirmed)

    def check(self) -> None:
        """The integrity check: raises AssertionError when a slot or a cell has leaked."""
        self.cache.check()
        if sorted(map(id, self.cache.running.values())) != sorted(map(id, self.running)):
            raise AssertionError("the cache's running sequences are not those that run")
        if self.is_idle and self.waiting.tokens:
            raise AssertionError(f"{self.waiting.tokens} tokens wait in an empty queue")

    @property
    def ledger(self) -> CellLedger:
        return self.cache.ledger

    # Parts of a plan

    def _pause_lower(self) -> None:
        """When all slots are taken, a waiting request of a higher class takes one that may be paused."""
        if len(self.running) < self.limits.slots or not len(self.waiting):
            return
        pausable = [s for s in self.running if s.scheduling_class in PAUSABLE]
        if not pausable:
            return
        victim = min(pausable, key=lambda s: (WEIGHTS[s.scheduling_class], -s.request, -s.choice))
        first = next(iter(self.waiting))
        is_higher = WEIGHTS[first.scheduling_class] > max(WEIGHTS[victim.scheduling_class], WEIGHTS["flex"])
        if is_higher and not self._has_leader(first) and self._fits(first, without=victim):
            victim.draft = []
            self.running.remove(victim)
            self.cache.retain(victim)
            self.waiting.give_way(victim, first)
            self._is_blocked = False

    def _plan_decodes(self, plan: Plan) -> None:
        decoding = [s for s in self.running if not s.is_prefilling]
        while decoding and not self.cache.make_room(sum(s.pending for s in decoding)):
            self._preempt(max(self.running, key=lambda s: (s.request, s.choice)))
            decoding = [s for s in self.running if not s.is_prefilling]
        known = sum(s.pending for s in decoding)
        for others_left, sequence in zip(range(len(decoding) - 1, -1, -1), decoding, strict=True):
            known -= sequence.pending
            room = self.limits.batch_tokens - plan.tokens - others_left
            self._add_span(sequence, min(sequence.pending, room), plan, reserved=known)

    def _plan_restores(self, plan: Plan) -> None:
        """Bring back stored blocks, all at once or, while others decode, some in each step. Those that there
        are no cells for are computed when there is room."""
        copied = 0
        for sequence in [s for s in self.running if s.restoring]:
            for count in range(len(sequence.restoring)):
                if plan.spans and copied >= self.limits.busy_copy_bytes:
                    return
                if not self.cache.make_room(self.tree.block_tokens):
                    while len(sequence.restoring) > count:
                        sequence.restoring.pop()
                    break
                copied += self.cache.restore(sequence, count).block.size

    def _prefill_room(self, plan: Plan) -> int:
        """Tokens of prompts that this step may compute. While others decode it is a small share, so that
        their gaps stay short, but no smaller than the part of those who wait for their first token, as far
        as a step could give it to them: of forty that come together none waits for the first few's answers.
        """
        room = self.limits.batch_tokens - plan.tokens
        if not plan.spans:
            return room
        brief = sum(s.is_prefilling and s.pending <= self.limits.batch_tokens for s in self.running)
        fair = self.limits.batch_tokens * brief // (brief + len(plan.spans))
        return min(room, max(self.limits.busy_prefill_tokens, fair))

    def _plan_prefills(self, plan: Plan, room: int) -> None:
        """Share the step's room among those that prefill: half to the oldest, so that it gets done, the rest
        to whoever needs least, so that a short prompt does not wait behind a long one."""
        prefilling = [s for s in self.running if s.is_prefilling and not s.restoring]
        if not prefilling or room <= 0:
            return
        oldest = prefilling[0]
        shares = {oldest: min(oldest.pending, (room + 1) // 2)}
        left = room - shares[oldest]
        for sequence in sorted(prefilling[1:], key=lambda s: (-WEIGHTS[s.scheduling_class], s.pending)):
            shares[sequence] = min(sequence.pending, left)
            left -= shares[sequence]
        shares[oldest] = min(oldest.pending, shares[oldest] + left)
        for sequence, share in shares.items():
            if share and sequence.slot is not None:  # not preempted just now, by the one before it
                self._plan_prefill(sequence, plan, share)

    def _plan_prefill(self, sequence: Sequence, plan: Plan, count: int) -> None:
        if not self.cache.make_room(count):
            count = self.ledger.free
        if count > 0:
            self._add_span(sequence, count, plan)
        elif not plan.spans:
            # Nothing can be computed at all: give way to those who came earlier.
            self._preempt(max(self.running, key=lambda s: (s.request, s.choice)))

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
        self.cache.extend(sequence, len(tokens))
        rows = 1 + len(sequence.draft) if reaches_end else 0
        plan.spans.append(Span(sequence.slot, sequence.computed, tokens, rows))
        plan.batch.append(sequence)
        if not sequence.begun:
            sequence.begun, sequence.cached = True, sequence.computed
            plan.begun.append(sequence)

    # Admission

    def _admit_some(self) -> None:
        while not self._is_blocked and (sequence := self._next_admissible()) is not None:
            self._is_blocked = not self._admit(sequence)

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
        leaders = [s for s in self.running if s.is_prefilling and s.namespace == sequence.namespace]
        if not leaders:
            return False
        usable = len(sequence.tokens) - 1
        already = self.cache.shared_length(sequence)
        for other in leaders:
            common = min(common_length(sequence.tokens, other.tokens), usable)
            if common > max(already, other.computed) and common >= SHORTEST_SHARE:
                return True
        return False

    def _admit(self, sequence: Sequence) -> bool:
        """Make `sequence` run, if it and all that run already will fit. Evicts nothing if not."""
        found = self.cache.find(sequence)
        needed = self._needed(sequence, found)
        if not self.cache.fits(found, needed):
            return False
        self.waiting.take(sequence)
        self.cache.open(sequence, found, needed)
        self.running.append(sequence)
        return True

    def _needed(self, sequence: Sequence, found: Beginning, without: Sequence | None = None) -> int:
        """Cells for the rest of the sequence's tokens, and for what the others are about to need."""
        promised = sum(s.pending + HEADROOM for s in self.running if s is not without)
        return len(sequence.tokens) - found.length + promised

    def _fits(self, sequence: Sequence, without: Sequence) -> bool:
        found = self.cache.find(sequence)
        return self.cache.fits(found, self._needed(sequence, found, without), without)

    def _preempt(self, sequence: Sequence) -> None:
        """Back to the head of the queue; what it had generated is computed again when there is room."""
        self.preemptions += 1
        self._is_blocked = False
        sequence.draft = []
        self.running.remove(sequence)
        self.cache.release(sequence)
        self.waiting.put_back(sequence)

    def __iter__(self) -> Iterator[Sequence]:
        yield from self.running
        yield from self.waiting
