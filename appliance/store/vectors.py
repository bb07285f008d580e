"""Approximate nearest neighbours: hnswlib's graph, and the only import of it.

A Graph holds vectors [count, dimensions] of length 1 under chunk ids; scores are inner products. It changes
in small steps, and searches go between the steps. hnswlib believes whatever file it is given, so a graph is
only ever loaded from bytes that `graph_file` has verified.

Source of the method: Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using
Hierarchical Navigable Small World graphs", 2016. M is the links per node, ef the width of a search.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path

import hnswlib
import numpy as np
from numpy.typing import NDArray

from appliance.store.exact import best

LINKS = 20
BUILD_WIDTH = 200
SEARCH_WIDTH = 100  # least; recall@10 at 100,000 chunks is in docs/BENCHMARKS.md
STEP = 32  # vectors added while searches wait; a step takes some 20 ms
SPARE = 1024
PIECE = 4096  # vectors taken out of the graph at once


class Graph:
    """An empty graph for `capacity` vectors; it grows by itself."""

    def __init__(self, dimensions: int, capacity: int = SPARE) -> None:
        self._index = hnswlib.Index(space="ip", dim=dimensions)
        self._index.init_index(max_elements=capacity, ef_construction=BUILD_WIDTH, M=LINKS)
        self._settle()

    @classmethod
    def load(cls, verified: Path, dimensions: int, live: NDArray[np.int64]) -> Graph:
        """The graph in a file whose every byte is known to be what `save` wrote; `live`: its `ids` then."""
        graph = cls.__new__(cls)
        graph._index = hnswlib.Index(space="ip", dim=dimensions)
        graph._index.load_index(str(verified), max_elements=0)
        graph._settle()
        graph._live.update(live.tolist())
        return graph

    def _settle(self) -> None:
        self._changing = threading.Lock()  # held by whoever changes the graph or writes it out
        self._lock = threading.Lock()  # held for each change and for each search
        self._live: set[int] = set()

    def __len__(self) -> int:
        return len(self._live)

    @property
    def ids(self) -> NDArray[np.int64]:
        """The ids that can be found, ascending."""
        with self._lock:
            return np.sort(np.fromiter(self._live, np.int64, len(self._live)))

    @property
    def dead_fraction(self) -> float:
        total = self._index.get_current_count()
        return 1 - len(self._live) / total if total else 0.0

    def add(self, ids: NDArray[np.int64], vectors: NDArray[np.float32], stop: threading.Event) -> bool:
        """False when `stop` was set before all were added."""
        for begin in range(0, len(ids), STEP):
            if stop.is_set():
                return False
            part = slice(begin, begin + STEP)
            with self._changing, self._lock:
                held, room = self._index.get_current_count(), self._index.get_max_elements()
                if held + STEP > room:
                    self._index.resize_index(held + max(SPARE, held // 4))
                self._index.add_items(vectors[part], ids[part], num_threads=1)
                self._live.update(ids[part].tolist())
        return True

    def bury(self, ids: Iterable[int]) -> None:
        """Take ids out; those it does not hold are ignored. Their places are only freed by a new graph."""
        with self._changing, self._lock:
            for id in self._live.intersection(ids):
                self._index.mark_deleted(id)
                self._live.discard(id)

    def search(
        self, vector: NDArray[np.float32], limit: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """At most `limit` ids and scores, best first. `vector`: [dimensions], of length 1."""
        with self._lock:
            limit = min(limit, len(self._live))
            if limit == 0:
                return np.empty(0, np.int64), np.empty(0, np.float32)
            self._index.set_ef(max(SEARCH_WIDTH, limit))
            try:
                ids, distances = self._index.knn_query(vector[None, :], k=limit, num_threads=1)
            except RuntimeError:
                # Many equal vectors leave parts of a graph without a way to them: too few were seen.
                return self._search_all(vector, limit)
        return ids[0].astype(np.int64), (1 - distances[0]).astype(np.float32)

    def _search_all(
        self, vector: NDArray[np.float32], limit: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The same, by looking at every vector."""
        ids = np.fromiter(self._live, np.int64, len(self._live))
        pieces = [ids[begin : begin + PIECE] for begin in range(0, len(ids), PIECE)]
        scores = [np.asarray(self._index.get_items(piece.tolist()), np.float32) @ vector for piece in pieces]
        return best(ids, np.concatenate(scores), limit)

    def vectors(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The vectors of those ids that it holds, as (ids, [n, dimensions])."""
        with self._lock:
            held = np.fromiter((id for id in ids.tolist() if id in self._live), np.int64)
            if not len(held):
                return held, np.empty((0, self._index.dim), np.float32)
            return held, np.asarray(self._index.get_items(held.tolist()), np.float32)

    def save(self, path: Path) -> NDArray[np.int64]:
        """Write hnswlib's own format; the ids that can be found in it, ascending. Searches go on."""
        with self._changing:
            self._index.save_index(str(path))
            return self.ids
