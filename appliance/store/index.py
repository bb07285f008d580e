"""The search index of one edition: a graph for most chunks, exact search for the newest, SQLite for truth.

An index is brought up to the generation of the snapshot it is asked in, so a search sees every write that
was acknowledged before it. New chunks are searched exactly until `maintain` has moved them into the graph;
where there is no graph, because the edition is small or its file was refused, all are. So an answer never
waits for a graph, and never depends on a file.
"""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

import numpy as np

from appliance.errors import HearthError
from appliance.store import editions, graph_file
from appliance.store.database import Connection, Database
from appliance.store.exact import Exact, Floats, Ids, best
from appliance.store.rows import Edition
from appliance.store.vectors import Graph

log = logging.getLogger("hearth.store")

GRAPH_FROM = 4096  # chunks; fewer are searched exactly in about a millisecond
ABSORB_FROM = 1024
DEAD_FRACTION = 0.3
SAVE_SECONDS = 30.0
FEW = 4096  # allowed chunks that are compared one by one rather than filtered out of a graph search


class Index:
    """Made in a read transaction on `connection`; loads the graph file, or all vectors without one."""

    def __init__(
        self,
        database: Database,
        directory: Path,
        connection: Connection,
        edition: Edition,
        graph_from: int = GRAPH_FROM,
        absorb_from: int = ABSORB_FROM,
    ) -> None:
        self._database, self._directory, self._edition = database, directory, edition
        self._graph_from, self._absorb_from = graph_from, absorb_from
        self._lock = threading.Lock()
        self._graph = self._load()
        # The graph stands for this generation, less what has been buried since.
        self._absorbed = edition.graph_generation if self._graph else 0
        self._saved = self._absorbed
        self._saved_at, self._save_took = -SAVE_SECONDS, 0.0  # a graph is first saved when it is first made
        self._generation = self._absorbed
        self._tail = Exact(edition.dimensions)
        self.refresh(connection)

    @property
    def has_graph(self) -> bool:
        return self._graph is not None

    @property
    def generation(self) -> int:
        return self._generation

    def __len__(self) -> int:
        """Chunks that can be found; while the tail goes over into the graph some count twice."""
        with self._lock:
            return len(self._tail) + (len(self._graph) if self._graph else 0)

    @property
    def ids(self) -> Ids:
        """Every chunk that can be found, ascending."""
        with self._lock:
            tail = self._tail.ids
            return np.union1d(tail, self._graph.ids) if self._graph else np.sort(tail)

    def refresh(self, connection: Connection) -> None:
        """Take in what has changed up to the connection's snapshot."""
        now = editions.generation(connection, self._edition.id)
        if now <= self._generation:
            return
        with self._lock:
            if now <= self._generation:
                return
            if now - self._generation > editions.REMEMBERED_GENERATIONS:
                self._graph, self._generation, self._absorbed = None, 0, 0
                self._tail = Exact(self._edition.dimensions)
            changes = editions.changes(connection, self._edition, self._generation)
            if self._graph and len(changes.removed):
                self._graph.bury(changes.removed.tolist())
            self._tail = self._tail.without(changes.removed).plus(changes.added, changes.vectors)
            self._generation = changes.generation

    def search(self, vector: Floats, limit: int, allowed: Ids | None = None) -> tuple[Ids, Floats]:
        """At most `limit` chunk ids and cosines, best first; only among `allowed` if given."""
        with self._lock:
            graph, tail = self._graph, self._tail
        if allowed is not None:
            return self._search_among(graph, tail, vector, limit, allowed)
        found = tail.search(vector, limit)
        return found if graph is None else _merged(graph.search(vector, limit), found, limit)

    def vectors(self, ids: Ids) -> dict[int, Floats]:
        """The vectors of those ids that are there."""
        with self._lock:
            graph, tail = self._graph, self._tail
        newest = tail.among(ids)
        found = dict(zip(newest.ids.tolist(), newest.vectors, strict=True))
        if graph is not None:
            held, vectors = graph.vectors(np.setdiff1d(ids, newest.ids))
            found.update(zip(held.tolist(), vectors, strict=True))
        return found

    def _search_among(
        self, graph: Graph | None, tail: Exact, vector: Floats, limit: int, allowed: Ids
    ) -> tuple[Ids, Floats]:
        found = tail.among(allowed).search(vector, limit)
        if graph is None or not len(allowed):
            return found
        if len(allowed) > FEW:
            # Enough that the graph, asked for more in proportion, meets `limit` of them.
            wanted = min(len(graph), 2 * limit * len(graph) // len(allowed) + limit)
            ids, scores = graph.search(vector, wanted)
            fits = np.isin(ids, allowed)
            if fits.sum() >= limit or wanted == len(graph):
                return _merged((ids[fits][:limit], scores[fits][:limit]), found, limit)
        ids, vectors = graph.vectors(allowed)
        return _merged(best(ids, vectors @ vector, limit), found, limit)

    # Upkeep, by one thread

    @property
    def needs_upkeep(self) -> bool:
        with self._lock:
            return self._wants_graph or self._wants_compaction or self._wants_absorption or self._wants_save

    def maintain(self, stop: threading.Event) -> None:
        """Build, extend or renew the graph and save it, as far as it is due. Returns early on `stop`."""
        with self._lock:
            builds = self._wants_graph or self._wants_absorption
            compacts = self._wants_compaction
        if compacts:
            self._compact(stop)
        elif builds:
            self._absorb(stop)
        if not stop.is_set() and self._wants_save:
            self.save()

    def save(self) -> None:
        """Write the graph out, if it has changed since it was. A full disk is logged: the file is a cache."""
        with self._lock:
            graph, generation = self._graph, self._absorbed
            if graph is None or generation <= self._saved:
                return
        begun = time.monotonic()
        try:
            digest = graph_file.write(graph, self._directory, self._edition, generation)
            self._database.write(
                lambda connection: editions.set_graph(connection, self._edition.id, generation, digest)
            ).result()
        except (OSError, HearthError) as error:
            log.warning("the index of %s could not be saved: %s", self._edition.base, error)
            graph_file.path_of(self._directory, self._edition.id, generation).unlink(missing_ok=True)
            self._saved_at = time.monotonic()
            return
        graph_file.path_of(self._directory, self._edition.id, self._saved).unlink(missing_ok=True)
        self._saved, self._saved_at = generation, time.monotonic()
        self._save_took = self._saved_at - begun

    @property
    def _wants_graph(self) -> bool:
        return self._graph is None and len(self._tail) >= self._graph_from

    @property
    def _wants_absorption(self) -> bool:
        return self._graph is not None and len(self._tail) >= self._absorb_from

    @property
    def _wants_compaction(self) -> bool:
        return self._graph is not None and self._graph.dead_fraction > DEAD_FRACTION

    @property
    def _wants_save(self) -> bool:
        pause = max(SAVE_SECONDS, 20 * self._save_took)
        is_due = time.monotonic() - self._saved_at > pause
        return self._graph is not None and self._absorbed > self._saved and is_due

    def _load(self) -> Graph | None:
        edition = self._edition
        if not edition.graph_digest:
            return None
        if edition.generation - edition.graph_generation > editions.REMEMBERED_GENERATIONS:
            log.warning("the index of %s is too old to be brought up to date; building it anew", edition.base)
            return None
        try:
            return graph_file.read(self._directory, edition)
        except graph_file.Refused as refusal:
            log.warning(
                "the index of %s is not used: %s; searching exactly while it is built anew",
                edition.base,
                refusal,
            )
            return None

    def _absorb(self, stop: threading.Event) -> None:
        """Move the tail into the graph, made if there is none."""
        with self._lock:
            tail, generation, graph = self._tail, self._generation, self._graph
        if graph is None:
            graph = Graph(self._edition.dimensions, len(tail) + len(tail) // 4)
        if not graph.add(tail.ids, tail.vectors, stop):
            return
        with self._lock:
            # What was taken out of the tail while the graph grew is in the graph by mistake.
            graph.bury(np.setdiff1d(tail.ids, self._tail.ids).tolist())
            self._graph, self._absorbed = graph, generation
            self._tail = self._tail.without(tail.ids)

    def _compact(self, stop: threading.Event) -> None:
        """A new graph of what is alive, in place of one that is full of dead nodes."""
        edition = self._edition
        everything = self._database.read(lambda connection: editions.changes(connection, edition, 0))
        graph = Graph(edition.dimensions, len(everything.added) + ABSORB_FROM)
        if not graph.add(everything.added, everything.vectors, stop):
            return
        with self._lock:
            assert self._graph is not None
            alive = np.union1d(self._graph.ids, self._tail.ids)
            if everything.generation > self._generation:
                # This graph knows more than the index does: it may hold what has not been taken in yet.
                alive = np.union1d(alive, everything.added)
            graph.bury(np.setdiff1d(everything.added, alive).tolist())
            self._graph = graph
            self._absorbed = min(everything.generation, self._generation)
            self._tail = self._tail.without(everything.added)


def _merged(first: tuple[Ids, Floats], second: tuple[Ids, Floats], limit: int) -> tuple[Ids, Floats]:
    """The best of both, each id once."""
    ids, places = np.unique(np.concatenate([first[0], second[0]]), return_index=True)
    scores = np.concatenate([first[1], second[1]])[places]
    return best(ids, scores, limit)
