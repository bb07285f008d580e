"""All open indexes: opened when first searched, kept up by one thread, closed when too many are open."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from pathlib import Path

from appliance.errors import HearthError
from appliance.store import editions, graph_file
from appliance.store.database import Connection, Database
from appliance.store.index import ABSORB_FROM, GRAPH_FROM, Index

log = logging.getLogger("hearth.store")

OPEN_INDEXES = 16
UPKEEP_SECONDS = 5.0  # how often saves that were put off are looked at again


class Indexes:
    """`close` at the end: it saves what has changed."""

    def __init__(
        self,
        database: Database,
        directory: Path,
        graph_from: int = GRAPH_FROM,
        absorb_from: int = ABSORB_FROM,
    ) -> None:
        self._database, self._directory = database, directory
        self._graph_from, self._absorb_from = graph_from, absorb_from
        self._open: OrderedDict[int, Index] = OrderedDict()
        self._opening: dict[int, threading.Lock] = {}
        self._forgotten: set[int] = set()  # removed, perhaps while their file was being saved
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._due = threading.Event()
        directory.mkdir(parents=True, exist_ok=True)
        self._clean()
        self._thread = threading.Thread(target=self._keep_up, name="index-upkeep", daemon=True)
        self._thread.start()

    def get(self, connection: Connection, edition: int) -> Index:
        """The edition's index, as new as the connection's snapshot. Raises NotFound when it was removed."""
        with self._lock:
            opening = self._opening.setdefault(edition, threading.Lock())
        with opening:
            with self._lock:
                index = self._open.get(edition)
                if index is not None:
                    self._open.move_to_end(edition)
            if index is None:
                index = Index(
                    self._database,
                    self._directory,
                    connection,
                    editions.get(connection, edition),
                    self._graph_from,
                    self._absorb_from,
                )
                with self._lock:
                    self._open[edition] = index
                self._due.set()
            else:
                index.refresh(connection)
        if index.needs_upkeep:
            self._due.set()
        return index

    def refresh(self, edition: int) -> None:
        """Bring the index up to date if it is open; called after a write, so that searches need not."""
        with self._lock:
            index = self._open.get(edition)
        if index is not None:
            self._database.read(index.refresh)
            if index.needs_upkeep:
                self._due.set()

    def forget(self, edition: int) -> None:
        """The edition has been removed: let go of its index and its file."""
        with self._lock:
            self._open.pop(edition, None)
            self._opening.pop(edition, None)
            self._forgotten.add(edition)
        self._unlink(edition)
        self._due.set()

    def close(self) -> None:
        self._stop.set()
        self._due.set()
        self._thread.join()
        with self._lock:
            remaining = list(self._open.values())
            self._open.clear()
        for index in remaining:
            index.save()
        self._unlink_forgotten()

    def _unlink(self, edition: int) -> None:
        for path in self._directory.glob(f"{edition}-*.graph"):
            path.unlink(missing_ok=True)

    def _unlink_forgotten(self) -> None:
        """No index is being saved now: what was forgotten while it was has its last file removed."""
        with self._lock:
            forgotten, self._forgotten = self._forgotten, set()
        for edition in forgotten:
            self._unlink(edition)

    def _keep_up(self) -> None:
        while not self._stop.is_set():
            self._due.wait(UPKEEP_SECONDS)
            self._due.clear()
            with self._lock:
                indexes = list(self._open.items())
            for edition, index in indexes:
                try:
                    while index.needs_upkeep and not self._stop.is_set():
                        index.maintain(self._stop)
                except HearthError as error:
                    log.warning("the index of edition %d was not kept up: %s", edition, error.message)
            self._close_some()
            self._unlink_forgotten()

    def _close_some(self) -> None:
        with self._lock:
            surplus = [self._open.popitem(last=False)[1] for _ in range(len(self._open) - OPEN_INDEXES)]
        for index in surplus:
            index.save()

    def _clean(self) -> None:
        """Remove files that no edition names."""
        named = self._database.read(
            lambda connection: [editions.get(connection, id) for id in editions.all_ids(connection)]
        )
        wanted = {
            graph_file.path_of(self._directory, e.id, e.graph_generation) for e in named if e.graph_digest
        }
        graph_file.clean(self._directory, wanted)
