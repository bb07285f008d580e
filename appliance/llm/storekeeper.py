"""Carries out what a plan changes: in the model's KV cache, and between it and the stored blocks.

Owns nothing itself. What is changed is the scheduler's decision; where blocks lie is the block store's.
"""

from __future__ import annotations

from collections.abc import Iterable

from appliance.llm.backend import Backend
from appliance.llm.block_store import BlockStore
from appliance.llm.plan import Change, Forget, Restore, Save, Share
from appliance.llm.scheduler import Scheduler


class Storekeeper:
    """Between the scheduler's books, the cache that they mirror and the store. Takes in, at its start, what
    the store has found of earlier lives."""

    def __init__(self, backend: Backend, scheduler: Scheduler, store: BlockStore) -> None:
        self._backend, self._scheduler, self._store = backend, scheduler, store
        self._tree = scheduler.tree
        for found in store.find():
            if not self._tree.adopt(found.digest, found.parent, found.depth, found.key, found.size):
                store.discard(found.digest)
        self._settle()

    def carry_out(self, changes: Iterable[Change]) -> None:
        """All of them, in their order."""
        self._settle()  # the plan may have forgotten blocks; what it saves must come after that
        for change in changes:
            match change:
                case Share(source, target, length):
                    self._backend.share(source, target, length)
                case Forget(sequence, start):
                    self._backend.forget(sequence, start)
                case Save():
                    self._save(change)
                case Restore():
                    self._restore(change)

    def close(self) -> None:
        self._store.close()

    def _save(self, change: Save) -> None:
        content = self._backend.save(change.sequence, change.start, change.length)
        self._store.put(change.block, content)
        self._tree.keep(change.block, len(content))
        self._settle()

    def _restore(self, change: Restore) -> None:
        content = self._store.get(change.block)
        is_whole = content is not None and self._backend.restore(
            change.slot, change.start, change.length, content
        )
        if content is None or not is_whole:
            self._tree.remove(change.block)
        else:
            self._tree.keep(change.block, len(content))
        self._settle()
        self._scheduler.restored(change, is_whole=is_whole)

    def _settle(self) -> None:
        """The store does what the tree has decided meanwhile, and the tree hears what could not be."""
        while effects := self._tree.take_effects():
            for block in self._store.carry_out(effects):
                self._tree.not_written(block)
