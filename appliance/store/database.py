"""SQLite as Hearth uses it: one writer thread, many readers, nothing acknowledged before it is on the disk.

The only import of apsw. Every write is one transaction, run by the one writer thread in the order given;
every read is one snapshot. WAL with `synchronous=FULL`: a write that was answered survives a power cut.
Knows no table: `migrations` and the modules beside it do.
"""

from __future__ import annotations

import contextlib
import queue
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

import apsw

from appliance.errors import HearthError, InternalError, Overloaded, StorageFull, Unavailable

Connection = apsw.Connection
Result = TypeVar("Result")

PAGE_BYTES = 8192
CACHE_KIBIBYTES = 16 * 1024
BUSY_SECONDS = 10
WAITING_WRITES = 1024
IDLE_READERS = 8
ALMOST_FULL_BYTES = 1024 * 1024
FILE_MAGIC = b"SQLite format 3\0"


class Database:
    """`close` at the end; a write given after that raises Unavailable."""

    def __init__(self, path: Path, prepare: Callable[[Connection], None]) -> None:
        """Open or create the file and run `prepare` on the writer's connection, outside a transaction.

        Raises what `prepare` raises, StorageFull, or InternalError for a file that is no database.
        """
        self.path = path
        self._jobs: queue.Queue[_Job | None] = queue.Queue(WAITING_WRITES)
        self._readers: queue.LifoQueue[Connection] = queue.LifoQueue(IDLE_READERS)
        self._closing = threading.Lock()
        self._closed = False
        with _typed(path):
            self._writer = _connect(path)
            self._writer.pragma("journal_mode", "wal")
            prepare(self._writer)
        self._thread = threading.Thread(target=self._work, name="sqlite-writer", daemon=True)
        self._thread.start()

    def write(self, work: Callable[[Connection], Result]) -> Future[Result]:
        """Queue `work` as one transaction; the future is done when it is on the disk, or rolled back.

        Raises Overloaded when too many writes wait, Unavailable after `close`.
        """
        future: Future[Any] = Future()
        with self._closing:
            if self._closed:
                raise Unavailable("the store is closed")
            try:
                self._jobs.put_nowait(_Job(work, future))
            except queue.Full:
                raise Overloaded(
                    f"{WAITING_WRITES} writes to the store are waiting already", retry_after=1
                ) from None
        return future

    def read(self, work: Callable[[Connection], Result]) -> Result:
        """The result of `work` on one snapshot, in the calling thread."""
        with self._reader() as connection, _typed(self.path):
            connection.execute("BEGIN")
            try:
                return work(connection)
            finally:
                connection.execute("ROLLBACK")

    def close(self) -> None:
        """Finish the waiting writes, then close every idle connection."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
        self._jobs.put(None)
        self._thread.join()
        with contextlib.suppress(queue.Empty):
            while True:
                self._readers.get_nowait().close()
        self._writer.close()

    @contextlib.contextmanager
    def _reader(self) -> Iterator[Connection]:
        try:
            connection = self._readers.get_nowait()
        except queue.Empty:
            with _typed(self.path):
                connection = _connect(self.path, apsw.SQLITE_OPEN_READWRITE)
                connection.pragma("query_only", True)
        try:
            yield connection
        finally:
            try:
                if self._closed:
                    raise queue.Full
                self._readers.put_nowait(connection)
            except queue.Full:
                connection.close()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job.run(self._writer, self.path)


class _Job:
    def __init__(self, work: Callable[[Connection], Any], future: Future[Any]) -> None:
        self._work, self._future = work, future

    def run(self, connection: Connection, path: Path) -> None:
        if not self._future.set_running_or_notify_cancel():
            return
        try:
            with _typed(path):
                result = _transaction(connection, self._work)
        except BaseException as error:
            self._future.set_exception(error)
        else:
            self._future.set_result(result)


def _transaction(connection: Connection, work: Callable[[Connection], Result]) -> Result:
    connection.execute("BEGIN IMMEDIATE")
    try:
        result = work(connection)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return result


def _connect(path: Path, flags: int = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE) -> Connection:
    connection = Connection(str(path), flags=flags | apsw.SQLITE_OPEN_NOMUTEX)
    connection.set_busy_timeout(BUSY_SECONDS * 1000)
    connection.pragma("page_size", PAGE_BYTES)
    connection.pragma("synchronous", "full")
    connection.pragma("foreign_keys", True)
    connection.pragma("temp_store", "memory")
    connection.pragma("cache_size", -CACHE_KIBIBYTES)
    connection.pragma("journal_size_limit", 64 * 1024 * 1024)
    connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
    connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
    return connection


@contextlib.contextmanager
def _typed(path: Path) -> Iterator[None]:
    """SQLite's errors as ours."""
    try:
        yield
    except apsw.FullError as error:
        raise _full(path) from error
    except apsw.BusyError as error:
        raise Unavailable(f"another program holds {path}", retry_after=1) from error
    except (apsw.CorruptError, apsw.NotADBError) as error:
        raise InternalError(
            f"{path} is damaged ({error}); restore it from a backup, or move it away to begin anew"
        ) from error
    except apsw.IOError as error:
        if shutil.disk_usage(path.parent).free < ALMOST_FULL_BYTES:
            raise _full(path) from error
        raise InternalError(f"{path} cannot be read or written: {error}") from error
    except apsw.Error as error:
        raise InternalError(f"{path}: {error}") from error


def _full(path: Path) -> HearthError:
    return StorageFull(
        f"the disk that holds {path.parent} is full; nothing of this was stored, and what was there is "
        "unharmed. Free some space and try again"
    )


# Whole files


def is_database(path: Path) -> bool:
    """By its first bytes; a file that nobody has written to is none."""
    with path.open("rb") as file:
        return file.read(len(FILE_MAGIC)) == FILE_MAGIC


def snapshot(source: Path, target: Path) -> None:
    """Copy a database to a new file, as it is at one moment, while others go on writing to it.

    By SQLite's online backup; checked afterwards. Raises StorageFull, InternalError for one that is damaged.
    """
    with _typed(target), contextlib.closing(Connection(str(target))) as copy:
        with contextlib.closing(_connect(source, apsw.SQLITE_OPEN_READWRITE)) as original:  # noqa: SIM117
            with copy.backup("main", original, "main") as backup:
                backup.step()  # all pages, in one read transaction
        copy.pragma("journal_mode", "delete")
    check_database(target)


@contextlib.contextmanager
def open_for_reading(path: Path) -> Iterator[Connection]:
    """A database that nobody else uses."""
    with _typed(path), contextlib.closing(_connect(path, apsw.SQLITE_OPEN_READWRITE)) as connection:
        connection.pragma("query_only", True)
        yield connection


def check_database(path: Path) -> int:
    """How many steps of migration the file has taken. Raises InternalError for one that is damaged."""
    with _typed(path), contextlib.closing(_connect(path, apsw.SQLITE_OPEN_READWRITE)) as connection:
        (found,) = connection.execute("PRAGMA integrity_check(1)").fetchone() or ("no answer",)
        if found != "ok":
            raise InternalError(f"{path} is damaged: {found}")
        return database_version(connection)


def database_version(connection: Connection) -> int:
    version = connection.pragma("user_version")
    assert isinstance(version, int)
    return version
