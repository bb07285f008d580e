"""Vectors already computed, by the hash of what they were computed from: in memory, then on disk.

A cache in a database of its own, which may be lost or deleted at any time. The oldest entries go first.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from appliance.errors import HearthError
from appliance.store.database import Connection, Database

log = logging.getLogger("hearth.store")

MEMORY_ENTRIES = 4096


class VectorCache:
    """Bytes by 32-byte keys. Nothing here raises: a cache that fails is an empty one."""

    def __init__(self, path: Path, disk_entries: int, memory_entries: int = MEMORY_ENTRIES) -> None:
        self._disk_entries, self._memory_entries = disk_entries, memory_entries
        self._memory: OrderedDict[bytes, bytes] = OrderedDict()
        self._lock = threading.Lock()
        self._database = _open(path) if disk_entries else None
        self.hits = self.misses = 0

    @property
    def hit_rate(self) -> float:
        return self.hits / max(1, self.hits + self.misses)

    def get(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Those that are there."""
        with self._lock:
            found = {key: self._memory[key] for key in keys if key in self._memory}
            for key in found:
                self._memory.move_to_end(key)
        missing = [key for key in keys if key not in found]
        if missing and self._database is not None:
            with contextlib.suppress(HearthError):
                read = self._database.read(lambda connection: _read(connection, missing))
                self._remember(read)
                found |= read
        with self._lock:
            self.hits += sum(key in found for key in keys)
            self.misses += sum(key not in found for key in keys)
        return found

    def put(self, entries: Mapping[bytes, bytes]) -> None:
        self._remember(entries)
        if self._database is not None:
            most = self._disk_entries
            with contextlib.suppress(HearthError):
                self._database.write(lambda connection: _write(connection, entries, most))

    def close(self) -> None:
        if self._database is not None:
            self._database.close()

    def _remember(self, entries: Mapping[bytes, bytes]) -> None:
        with self._lock:
            self._memory.update(entries)
            while len(self._memory) > self._memory_entries:
                self._memory.popitem(last=False)


def _open(path: Path) -> Database | None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return Database(path, _prepare)
    except (HearthError, OSError) as error:
        log.warning("the cache %s is made anew: %s", path, error)
    try:
        for part in path.parent.glob(f"{path.name}*"):
            part.unlink()
        return Database(path, _prepare)
    except (HearthError, OSError) as error:
        log.warning("there is no cache on disk: %s", error)
        return None


def _prepare(connection: Connection) -> None:
    connection.pragma("synchronous", "normal")  # what a power cut takes is computed again
    connection.execute(
        "CREATE TABLE IF NOT EXISTS vectors("
        "id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, data BLOB NOT NULL) STRICT"
    )


def _read(connection: Connection, keys: Sequence[bytes]) -> dict[bytes, bytes]:
    listed = msgspec.json.encode([key.hex() for key in keys]).decode()
    rows = connection.execute(
        "SELECT v.key, v.data FROM json_each(?) j JOIN vectors v ON v.key = unhex(j.value)", (listed,)
    )
    return {bytes(row[0]): bytes(row[1]) for row in rows}


def _write(connection: Connection, entries: Mapping[bytes, bytes], most: int) -> None:
    connection.executemany("INSERT OR IGNORE INTO vectors(key, data) VALUES(?, ?)", list(entries.items()))
    row = connection.execute("SELECT max(id) - ? FROM vectors", (most,)).fetchone()
    if row is not None and row[0] is not None:
        connection.execute("DELETE FROM vectors WHERE id <= ?", (row[0],))
