from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import Future
from pathlib import Path

import pytest

from appliance.errors import InternalError, SetupError, StorageFull, Unavailable
from appliance.store.database import Connection, Database
from appliance.store.lock import DirectoryLock
from appliance.store.migrations import MIGRATIONS, migrate


def make_table(connection: Connection) -> None:
    connection.execute("CREATE TABLE IF NOT EXISTS t(x)")


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(tmp_path / "t.db", make_table)


def count(connection: Connection) -> int:
    row = connection.execute("SELECT count(*) FROM t").fetchone()
    assert row is not None
    return int(row[0])


def test_every_connection_waits_for_the_disk(database: Database) -> None:
    def settings(connection: Connection) -> tuple[object, ...]:
        return connection.pragma("journal_mode"), connection.pragma("synchronous")

    assert database.read(settings) == ("wal", 2)
    journal, synchronous = database.write(
        lambda c: (c.pragma("journal_mode"), c.pragma("synchronous"))
    ).result()
    assert (journal, synchronous) == ("wal", 2)
    database.close()


def test_a_failed_write_leaves_nothing(database: Database) -> None:
    def insert_and_fail(connection: Connection) -> None:
        connection.execute("INSERT INTO t VALUES(1)")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        database.write(insert_and_fail).result()
    assert database.read(count) == 0
    database.close()


def test_writes_of_many_threads_all_happen(database: Database) -> None:
    futures: list[Future[object]] = []

    def insert() -> None:
        futures.extend(
            database.write(lambda c: c.execute("INSERT INTO t VALUES(1)") and None) for _ in range(20)
        )

    threads = [threading.Thread(target=insert) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for future in futures:
        future.result()
    assert database.read(count) == 160
    database.close()


def test_a_reader_cannot_write(database: Database) -> None:
    with pytest.raises(InternalError):
        database.read(lambda c: c.execute("INSERT INTO t VALUES(1)"))
    database.close()


def test_a_reader_sees_one_moment(database: Database) -> None:
    def look_twice(connection: Connection) -> tuple[int, int]:
        before = count(connection)
        database.write(lambda c: c.execute("INSERT INTO t VALUES(1)") and None).result()
        return before, count(connection)

    assert database.read(look_twice) == (0, 0)
    assert database.read(count) == 1
    database.close()


def test_a_full_disk_is_told_and_harms_nothing(database: Database) -> None:
    def limit(connection: Connection) -> None:
        pages = connection.pragma("page_count")
        connection.pragma("max_page_count", pages)

    def fill(connection: Connection) -> None:
        connection.execute("INSERT INTO t VALUES(zeroblob(1000000))")

    database.write(lambda c: c.execute("INSERT INTO t VALUES(1)") and None).result()
    database.write(limit).result()
    with pytest.raises(StorageFull):
        database.write(fill).result()
    assert database.read(count) == 1
    database.write(lambda c: c.pragma("max_page_count", 1_000_000)).result()
    database.write(fill).result()
    assert database.read(count) == 2
    database.close()


def test_a_closed_database_refuses(database: Database) -> None:
    database.close()
    with pytest.raises(Unavailable):
        database.write(count)


def test_what_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "t.db").write_bytes(b"not a database" * 1000)
    with pytest.raises(InternalError, match=r"t\.db is damaged"):
        Database(tmp_path / "t.db", make_table)


def test_migrations_are_taken_once(tmp_path: Path) -> None:
    for _ in range(2):
        database = Database(tmp_path / "k.db", migrate)
        assert database.read(lambda c: c.pragma("user_version")) == len(MIGRATIONS)
        database.close()


def test_a_newer_file_is_refused(tmp_path: Path) -> None:
    database = Database(tmp_path / "k.db", migrate)
    database.write(lambda c: c.pragma("user_version", 999)).result()
    database.close()
    with pytest.raises(SetupError, match="newer Hearth"):
        Database(tmp_path / "k.db", migrate)


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from appliance.store.lock import DirectoryLock\n"
        "from appliance.errors import SetupError\n"
        "try: DirectoryLock(Path(sys.argv[1]))\n"
        "except SetupError as error: print(error.message)\n"
        "else: print('taken')"
    )

    def ask() -> str:
        words = [sys.executable, "-c", program, str(tmp_path)]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout

    lock = DirectoryLock(tmp_path)
    assert "in use by another Hearth" in ask()
    lock.release()
    assert ask() == "taken\n"
