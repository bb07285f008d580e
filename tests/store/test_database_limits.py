"""SQLite's limits and faults as Hearth's errors, and databases as whole files."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import apsw
import pytest

from appliance.errors import InternalError, Overloaded, StorageFull, Unavailable
from appliance.store import database as module
from appliance.store.database import (
    Connection,
    Database,
    check_database,
    is_database,
    open_for_reading,
    snapshot,
)


def make_table(connection: Connection) -> None:
    connection.execute("CREATE TABLE IF NOT EXISTS t(x)")


def insert(connection: Connection) -> None:
    connection.execute("INSERT INTO t VALUES(1)")


def count(connection: Connection) -> int:
    return len(connection.execute("SELECT x FROM t").fetchall())


def test_more_writes_than_may_wait_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAITING_WRITES", 4)
    database = Database(tmp_path / "t.db", make_table)
    is_held, may_go = threading.Event(), threading.Event()

    def hold(connection: Connection) -> None:
        is_held.set()
        may_go.wait(30)

    held = database.write(hold)
    is_held.wait(30)
    waiting = [database.write(insert) for _ in range(4)]
    with pytest.raises(Overloaded) as refused:
        database.write(insert)
    assert refused.value.retry_after == 1
    assert waiting[0].cancel(), "who gives up before its turn"
    may_go.set()
    held.result()
    for each in waiting[1:]:
        each.result()
    assert database.read(count) == 3
    database.close()
    database.close()


def test_another_programs_lock_is_waited_for_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BUSY_SECONDS", 0)
    database = Database(tmp_path / "t.db", make_table)
    program = (
        "import sqlite3, sys\n"
        "other = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "other.execute('BEGIN IMMEDIATE')\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    words = [sys.executable, "-c", program, str(tmp_path / "t.db")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(Unavailable, match="another program holds"):
            database.write(insert).result()
        other.communicate()
    database.write(insert).result()
    database.close()


def test_readers_beyond_the_idle_ones_are_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IDLE_READERS", 1)
    database = Database(tmp_path / "t.db", make_table)

    def nested(depth: int) -> int:
        return database.read(lambda c: nested(depth - 1) if depth else count(c))

    assert nested(5) == 0
    assert database._readers.qsize() == 1
    database.close()


def test_a_read_that_ends_after_the_close_leaves_nothing_open(tmp_path: Path) -> None:
    database = Database(tmp_path / "t.db", make_table)

    def work(connection: Connection) -> int:
        database.close()
        return count(connection)

    assert database.read(work) == 0
    assert not [name for name in _open_files() if name.startswith(str(tmp_path))]


def _open_files() -> list[str]:
    names = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            names.append(os.readlink(entry))
        except FileNotFoundError:
            continue
    return names


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (apsw.FullError(), StorageFull),
        (apsw.BusyError(), Unavailable),
        (apsw.CorruptError(), InternalError),
        (apsw.NotADBError(), InternalError),
        (apsw.IOError(), InternalError),
        (apsw.SQLError(), InternalError),
    ],
)
def test_every_fault_of_sqlite_is_one_of_ours(
    tmp_path: Path, error: Exception, expected: type[Exception]
) -> None:
    database = Database(tmp_path / "t.db", make_table)

    def fail(_: Connection) -> None:
        raise error

    with pytest.raises(expected):
        database.read(fail)
    with pytest.raises(expected):
        database.write(fail).result()
    database.close()


def test_an_io_error_on_a_full_disk_is_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = Database(tmp_path / "t.db", make_table)
    monkeypatch.setattr(module, "ALMOST_FULL_BYTES", 1 << 62)

    def fail(_: Connection) -> None:
        raise apsw.IOError

    with pytest.raises(StorageFull):
        database.read(fail)
    database.close()


def test_a_write_that_ended_its_transaction_by_itself_is_a_failure(tmp_path: Path) -> None:
    database = Database(tmp_path / "t.db", make_table)

    def end_early(connection: Connection) -> None:
        insert(connection)
        connection.execute("ROLLBACK")

    with pytest.raises(InternalError):
        database.write(end_early).result()
    database.write(insert).result()
    assert database.read(count) == 1
    database.close()


# Whole files


def test_a_snapshot_has_one_moment_while_others_write(tmp_path: Path) -> None:
    database = Database(tmp_path / "t.db", make_table)
    is_over = threading.Event()

    def pairs() -> None:
        def two(connection: Connection) -> None:
            insert(connection)
            insert(connection)

        while not is_over.is_set():
            database.write(two).result()

    writing = threading.Thread(target=pairs)
    writing.start()
    try:
        for number in range(5):
            copy = tmp_path / f"copy-{number}.db"
            snapshot(tmp_path / "t.db", copy)
            assert is_database(copy)
            with open_for_reading(copy) as connection:
                assert count(connection) % 2 == 0, "half of a transaction"
                with pytest.raises(apsw.Error):
                    insert(connection)
            assert [path.name for path in tmp_path.glob(f"copy-{number}.db*")] == [copy.name]
    finally:
        is_over.set()
        writing.join()
    database.close()


def test_a_damaged_database_is_found(tmp_path: Path) -> None:
    database = Database(tmp_path / "t.db", make_table)
    for _ in range(500):
        database.write(lambda c: c.execute("INSERT INTO t VALUES(hex(randomblob(200)))") and None)
    database.close()
    assert check_database(tmp_path / "t.db") == 0
    path = tmp_path / "t.db"
    content = bytearray(path.read_bytes())
    content[3 * 8192 : 3 * 8192 + 4000] = bytes(4000)
    path.write_bytes(content)
    with pytest.raises(InternalError, match="damaged"):
        check_database(path)
    with pytest.raises(InternalError, match="damaged"):
        snapshot(path, tmp_path / "copy.db")


def test_what_is_no_database_is_known(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"")
    assert not is_database(tmp_path / "x.db")
