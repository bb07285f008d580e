"""The books of the KV cache: which cache sequence ids are free, running or retained, and who holds which
cells.

A mirror of llama.cpp's own state, never a look at it: every change is recorded here and listed in
`take_changes` for the engine to carry out, in order. It decides where a prompt's beginning comes from and
what is evicted; when a sequence runs is the scheduler's decision.

Where a beginning comes from: the cells of a running or retained sequence are shared, which costs nothing;
what stands beyond them in stored blocks is restored, which costs a copy. Retained sequences weigh on every
step, because attention passes over their cells; so they are given up for stored blocks while others run.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import NamedTuple

import numpy as np

from appliance.llm.blocks import Block, BlockTree
from appliance.llm.ledger import CellLedger, Cells
from appliance.llm.plan import Change, Forget, Restore, Save, Share
from appliance.llm.prefix import Holder, best_match
from appliance.llm.sequence import NO_CELLS, Sequence

SHORTEST_SHARE = 8  # tokens; copying fewer saves less than the bookkeeping costs
RETAINED_WHILE_BUSY = 256  # cells; llama.cpp's attention counts cells in steps of this many
SAVES_AT_ONCE = 4  # blocks; a step's gap grows by about 1 ms for each


class Retained(NamedTuple):
    """A finished sequence whose cells stay for whoever comes with the same beginning."""

    namespace: str
    tokens: list[int]
    cells: Cells
    proven: int  # tokens that it had in common with an earlier request


class Beginning(NamedTuple):
    """What is there of a prompt: `length` tokens in the cells of `holder`, and blocks from there on."""

    holder: int | None = None
    length: int = 0
    path: tuple[Block, ...] = ()  # every stored block of the prompt
    restored: tuple[Block, ...] = ()  # those to be restored behind the shared cells


class KvCache:
    def __init__(self, cells: int, sequences: int, tree: BlockTree) -> None:
        self.ledger = CellLedger(cells)
        self.tree = tree
        self.retained: OrderedDict[int, Retained] = OrderedDict()  # oldest first
        self.running: dict[int, Sequence] = {}
        self._sequences = sequences
        self._free_ids = list(range(sequences - 1, -1, -1))
        self._unsaved: dict[int, int] = {}  # retained sequences and how many blocks of each to try to store
        self._changes: list[Change] = []

    def take_changes(self) -> list[Change]:
        changes, self._changes = self._changes, []
        return changes

    # Beginnings

    def find(self, sequence: Sequence) -> Beginning:
        """The longest beginning there is. The last token is always computed: its logits choose the first new
        one."""
        usable = len(sequence.tokens) - 1
        holder, length = self._find_holder(sequence, usable)
        path = self.tree.find(sequence.namespace, sequence.tokens[:usable]) if self.tree.is_on else []
        size = self.tree.block_tokens
        if len(path) * size <= length:
            return Beginning(holder, length, tuple(path))
        shared = length // size
        restored = tuple(path[shared:])
        return Beginning(holder if shared else None, shared * size, tuple(path), restored)

    def shared_length(self, sequence: Sequence) -> int:
        """Tokens of the sequence's beginning that stand in the cache or in stored blocks."""
        found = self.find(sequence)
        return found.length + len(found.restored) * self.tree.block_tokens

    def _find_holder(self, sequence: Sequence, usable: int) -> tuple[int | None, int]:
        space = sequence.namespace
        holders = [
            Holder(slot, held.tokens, len(held.tokens))
            for slot, held in self.retained.items()
            if held.namespace == space
        ]
        holders += [
            Holder(slot, s.tokens, s.computed) for slot, s in self.running.items() if s.namespace == space
        ]
        match = best_match(sequence.tokens, holders)
        length = min(match.length, usable) if match else 0
        return (match.holder, length) if match and length >= SHORTEST_SHARE else (None, 0)

    # Opening and closing

    def fits(self, found: Beginning, needed: int, without: Sequence | None = None) -> bool:
        """Whether `needed` cells could be free beside those that run and the beginning's own."""
        shared = NO_CELLS if found.holder is None else self._cells_of(found.holder)[: found.length]
        running = [s.cells for s in self.running.values() if s is not without]
        held = self.ledger.distinct([shared, *running])
        return self.ledger.size - held >= needed

    def open(self, sequence: Sequence, found: Beginning, needed: int) -> None:
        """Give the sequence a cache sequence with the beginning's shared cells, and `needed` free ones."""
        self.tree.use(found.path)
        self.make_room(needed, found.holder)  # where that is not enough, the holder's own tail goes later
        used_up = found.holder is not None and self._is_used_up(found)
        if not used_up and not self._free_ids:
            self._evict(found.holder)
        if found.holder is None:
            slot, cells = self._free_ids.pop(), NO_CELLS
        elif used_up or not self._free_ids:
            slot, cells = found.holder, self._take_over(found)
        else:
            slot = self._free_ids.pop()
            if found.holder in self.retained:
                self.retained.move_to_end(found.holder)
            self._changes.append(Share(found.holder, slot, found.length))
            cells = self.ledger.share(self._cells_of(found.holder)[: found.length])
        sequence.slot, sequence.cells, sequence.computed = slot, cells, found.length
        sequence.restoring, sequence.has_caught_up = deque(found.restored), False
        self.running[slot] = sequence

    def retain(self, sequence: Sequence) -> None:
        """The sequence has ended; its cells stay as long as nobody needs them."""
        if sequence.computed < SHORTEST_SHARE:
            self.release(sequence)
            return
        slot = self._close(sequence)
        held = sequence.tokens[: sequence.computed]
        self.retained[slot] = Retained(sequence.namespace, held, sequence.cells, sequence.cached)
        if self.tree.is_on:
            self._unsaved[slot] = len(held) // self.tree.block_tokens
        sequence.slot, sequence.cells, sequence.computed = None, NO_CELLS, 0

    def release(self, sequence: Sequence) -> None:
        self._drop(self._close(sequence), sequence.cells)
        sequence.slot, sequence.cells, sequence.computed = None, NO_CELLS, 0

    def _close(self, sequence: Sequence) -> int:
        assert sequence.slot is not None
        sequence.restoring.clear()
        del self.running[sequence.slot]
        return sequence.slot

    def _is_used_up(self, found: Beginning) -> bool:
        """Whether the beginning is all of a retained sequence, as in a conversation's next turn."""
        held = self.retained.get(-1 if found.holder is None else found.holder)
        return held is not None and len(held.tokens) == found.length

    def _take_over(self, found: Beginning) -> Cells:
        """Turn a retained sequence into a running one; what it has beyond the beginning is given up."""
        assert found.holder is not None
        held = self.retained.pop(found.holder)
        if len(held.tokens) > found.length:
            self._save(found.holder, held, self._sequences)
        self._unsaved.pop(found.holder, None)
        self.ledger.release(held.cells[found.length :])
        self._changes.append(Forget(found.holder, found.length))
        return held.cells[: found.length]

    def _cells_of(self, slot: int) -> Cells:
        return self.retained[slot].cells if slot in self.retained else self.running[slot].cells

    # Growing and shrinking

    def extend(self, sequence: Sequence, count: int) -> None:
        """`count` more cells, which must be free."""
        taken = self.ledger.take(count)
        sequence.cells = np.concatenate((sequence.cells, taken)) if len(sequence.cells) else taken

    def shorten(self, sequence: Sequence, length: int) -> None:
        """Give up what was computed beyond the first `length` tokens."""
        assert sequence.slot is not None
        self.ledger.release(sequence.cells[length:])
        sequence.cells, sequence.computed = sequence.cells[:length], min(sequence.computed, length)
        self._changes.append(Forget(sequence.slot, length))

    def restore(self, sequence: Sequence, copied: int) -> Restore:
        """Bring back the next of the sequence's blocks, behind `copied` that this step brings back already;
        its cells must be free."""
        assert sequence.slot is not None
        size = self.tree.block_tokens
        self.extend(sequence, size)
        start = sequence.computed + copied * size
        change = Restore(sequence, sequence.slot, start, size, sequence.restoring[copied])
        self._changes.append(change)
        return change

    # Room

    def make_room(self, count: int, keep: int | None = None) -> bool:
        """Evict retained sequences, oldest first, until `count` cells are free."""
        while self.ledger.free < count:
            if not self._evict(keep):
                return False
        return True

    def lighten(self) -> None:
        """While others run: give up retained sequences, oldest first, once stored blocks hold them.

        What is not stored yet is copied a little at a time, and given up in a later step.
        """
        if not self.retained or not self.running or not self.tree.is_on:
            return
        running = self.ledger.distinct(s.cells for s in self.running.values())
        copies = SAVES_AT_ONCE
        while self.retained and self.ledger.used - running > RETAINED_WHILE_BUSY:
            slot, held = next(iter(self.retained.items()))
            copies -= self._save(slot, held, copies)
            if slot in self._unsaved:
                return
            self._evict()

    @property
    def has_unsaved(self) -> bool:
        """Whether a retained sequence might be lost to an eviction or an end."""
        return bool(self._unsaved)

    def save_some(self) -> None:
        """While nothing runs: copy retained sequences to stored blocks, a little at a time."""
        slot = next(reversed(self._unsaved))
        self._save(slot, self.retained[slot], SAVES_AT_ONCE)

    def _save(self, slot: int, held: Retained, most: int) -> int:
        """Copy up to `most` blocks that are not stored yet; how many that were."""
        if slot not in self._unsaved:
            return 0
        size = self.tree.block_tokens
        planted = self.tree.plant(held.namespace, held.tokens, proven=held.proven, most=most)
        self._changes += [Save(slot, (block.depth - 1) * size, size, block) for block in planted]
        self._unsaved[slot] -= len(planted)
        # The budget may be too small for all of it: then it is not tried for ever.
        if len(planted) < most or self._unsaved[slot] <= 0:
            del self._unsaved[slot]
        return len(planted)

    def _evict(self, keep: int | None = None) -> bool:
        victim = next((slot for slot in self.retained if slot != keep), None)
        if victim is None:
            return False
        held = self.retained.pop(victim)
        self._save(victim, held, len(held.tokens))
        self._drop(victim, held.cells)
        return True

    def _drop(self, slot: int, cells: Cells) -> None:
        self.ledger.release(cells)
        self._unsaved.pop(slot, None)
        self._free_ids.append(slot)
        self._changes.append(Forget(slot, 0))

    # Integrity

    def lengths(self) -> dict[int, int]:
        """How many tokens each cache sequence id holds, when no step is under way."""
        held = dict.fromkeys(self._free_ids, 0)
        held |= {slot: len(retained.tokens) for slot, retained in self.retained.items()}
        return held | {slot: sequence.computed for slot, sequence in self.running.items()}

    def check(self) -> None:
        """Raises AssertionError when a cache sequence id or a cell has leaked."""
        ids = [*self._free_ids, *self.retained, *self.running]
        if sorted(ids) != list(range(self._sequences)):
            raise AssertionError(f"cache sequences have leaked: {sorted(ids)}")
        held: list[tuple[Cells, int]] = [(s.cells, s.computed) for s in self.running.values()]
        held += [(r.cells, len(r.tokens)) for r in self.retained.values()]
        for cells, length in held:
            if len(cells) != length:
                raise AssertionError(f"{len(cells)} cells are held for {length} computed tokens")
        self.ledger.check([cells for cells, _ in held])
        if not self._unsaved.keys() <= self.retained.keys():
            raise AssertionError("a sequence is to be stored that is not retained")
        self.tree.check()
