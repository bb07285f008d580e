"""Exact nearest neighbours: every vector looked at. Right by construction, and quick up to some ten thousand.

An Exact never changes: what is added or taken out gives a new one, so a search needs no lock.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Floats = NDArray[np.float32]

MOST_BLOCKS = 64


@dataclass(frozen=True)
class Exact:
    """Vectors of length 1, [count, dimensions], under ids; kept in the blocks that they came in."""

    dimensions: int
    blocks: tuple[tuple[Ids, Floats], ...] = ()

    def __len__(self) -> int:
        return sum(len(ids) for ids, _ in self.blocks)

    @property
    def ids(self) -> Ids:
        return np.concatenate([ids for ids, _ in self.blocks]) if self.blocks else np.empty(0, np.int64)

    @property
    def vectors(self) -> Floats:
        if not self.blocks:
            return np.empty((0, self.dimensions), np.float32)
        return self.blocks[0][1] if len(self.blocks) == 1 else np.concatenate([v for _, v in self.blocks])

    def plus(self, ids: Ids, vectors: Floats) -> Exact:
        if not len(ids):
            return self
        more = Exact(self.dimensions, (*self.blocks, (ids, vectors)))
        if len(more.blocks) > MOST_BLOCKS:
            return Exact(self.dimensions, ((more.ids, more.vectors),))
        return more

    def without(self, ids: Ids) -> Exact:
        return self._those(ids, are_kept=False) if len(ids) else self

    def among(self, ids: Ids) -> Exact:
        """Only these ids."""
        return self._those(ids, are_kept=True)

    def _those(self, ids: Ids, *, are_kept: bool) -> Exact:
        blocks = []
        for held, vectors in self.blocks:
            kept = np.isin(held, ids, invert=not are_kept)
            if kept.all():
                blocks.append((held, vectors))
            elif kept.any():
                blocks.append((held[kept], vectors[kept]))
        return Exact(self.dimensions, tuple(blocks))

    def search(self, vector: Floats, limit: int) -> tuple[Ids, Floats]:
        """At most `limit` ids and inner products, best first."""
        if not self.blocks:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        return best(self.ids, np.concatenate([vectors @ vector for _, vectors in self.blocks]), limit)


def best(ids: Ids, scores: Floats, limit: int) -> tuple[Ids, Floats]:
    """The `limit` highest scores with their ids, best first."""
    if limit < len(scores):
        chosen = np.argpartition(-scores, limit - 1)[:limit]
        ids, scores = ids[chosen], scores[chosen]
    order = np.argsort(-scores, kind="stable")
    return ids[order], scores[order]
