"""The audit log as a server writes it: bounded, chained, kept going by its policy when
the disk takes nothing.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance.audit import AuditEntry
from appliance.config.audit import Audit
from appliance.errors import Overloaded, SetupError, StorageFull
from appliance.security.audit import writer
from appliance.security.audit.files import HEAD, log_files, log_path
from appliance.security.audit.log import AuditLog
from appliance.security.audit.verify import read_checkpoints
from tests.security.audit.conftest import Home, filled, settled


def everything(_: AuditEntry) -> bool:
    return True


class Disk:
    """A disk that can be full: the writer's appends fail then, after half of the bytes."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.is_full = False
        real = writer._write_whole

        def write(descriptor: int, content: bytes) -> None:
            if self.is_full:
                os.write(descriptor, content[: len(content) // 2])
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            real(descriptor, content)

        patch.setattr(writer, "_write_whole", write)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def test_a_line_says_who_asked_what_and_nothing_of_the_prompt(home: Home) -> None:
    home.serve(3)
    lines = [json.loads(line) for line in log_files(home.directory)[0].path.read_bytes().splitlines()]
    assert [line["event"] for line in lines] == ["start", "request", "request", "request", "stop"]
    assert [line["seq"] for line in lines] == [1, 2, 3, 4, 5]
    for line in lines:
        assert datetime.fromisoformat(line["time"]).tzinfo == UTC
        assert {"trace", "user", "endpoint", "model", "route", "tokens", "status", "sensitive"} <= set(line)
    assert lines[1]["user"] != lines[2]["user"], "users differ"
    assert "user-" not in log_files(home.directory)[0].path.read_text(), "but are not named"


def test_pages_go_forwards_and_backwards(home: Home) -> None:
    async def read() -> None:
        log = AuditLog(home.directory, Audit(file_bytes=4096))
        log.start()
        for round in range(8):
            await filled(log, 10, round * 10)
        newest = log.newest
        assert newest == 81
        assert [e.seq for e in (await log.before(0, 5, everything)).data] == [77, 78, 79, 80, 81]
        assert [e.seq for e in (await log.before(40, 3, everything)).data] == [37, 38, 39]
        page = await log.after(78, 10, everything)
        assert ([e.seq for e in page.data], page.last, page.newest) == ([79, 80, 81], 81, 81)
        log._recent.clear()  # as after a restart: out of the files
        page = await log.after(38, 4, everything)
        assert ([e.seq for e in page.data], page.last) == ([39, 40, 41, 42], 42)
        nobody = await log.after(0, 10, lambda entry: entry.status == 500)
        assert (nobody.data, nobody.last) == ((), 81), "how far was looked"
        await asyncio.to_thread(log.close)

    asyncio.run(read())
    assert len(log_files(home.directory)) > 3


def test_who_waits_is_told_of_the_next_line(home: Home) -> None:
    async def wait() -> None:
        log = AuditLog(home.directory, Audit())
        log.start()
        await filled(log, 1)
        waiting = asyncio.ensure_future(log.wait_beyond(log.newest, 30))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await filled(log, 1)
        await asyncio.wait_for(waiting, 5)
        await log.wait_beyond(log.newest, 0.01)  # ends by itself
        await asyncio.to_thread(log.close)

    asyncio.run(wait())


def test_a_full_disk_degrades_and_the_gap_is_told(home: Home, disk: Disk) -> None:
    async def run() -> None:
        log = AuditLog(home.directory, Audit(when_full="degrade"))
        log.start()
        await filled(log, 2)
        disk.is_full = True
        await filled(log, 5)
        await settled(lambda: log.lost == 5)
        assert log.failing == "the disk is full"
        log.admit().fill(log.entry("request"))
        await settled(lambda: log.lost == 6)
        disk.is_full = False
        log.admit().fill(log.entry("request"))
        await settled(lambda: not log.failing)
        assert (log.failing, log.waiting) == ("", 0)
        events = [(e.event, e.count) for e in (await log.before(0, 3, everything)).data]
        assert events == [("request", 0), ("lost", 6), ("request", 0)]
        await asyncio.to_thread(log.close)

    asyncio.run(run())
    report = home.verify()
    assert report.is_sound, "a full disk is no tampering"
    assert [finding.fault for finding in report.findings] == ["lost"]


def test_a_full_disk_refuses_and_loses_nothing(home: Home, disk: Disk) -> None:
    async def run() -> None:
        log = AuditLog(home.directory, Audit(when_full="refuse"))
        log.start()
        await filled(log, 2)
        under_way = log.admit()
        disk.is_full = True
        await filled(log, 1)
        with pytest.raises(StorageFull, match="refuse") as refused:
            log.admit()
        assert refused.value.retry_after is not None
        under_way.fill(log.entry("request", status=201))  # it was answered before anybody knew
        looking = log.admit(always=True)
        looking.fill(log.entry("request", status=202))
        disk.is_full = False
        await settled(lambda: not log.waiting)
        log.admit().fill(log.entry("request", status=203))
        await asyncio.to_thread(log.close)

    asyncio.run(run())
    report = home.verify()
    assert report.findings == ()
    lines = [json.loads(line) for line in log_files(home.directory)[0].path.read_bytes().splitlines()]
    assert [line["status"] for line in lines] == [0, 200, 200, 200, 201, 202, 203, 0]


def test_a_disk_that_is_full_at_the_stop_does_not_hold_it_for_ever(
    home: Home, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.security.audit.log.STOP_SECONDS", 0.3)

    async def run() -> None:
        log = AuditLog(home.directory, Audit(when_full="refuse"))
        log.start()
        await filled(log, 1)
        disk.is_full = True
        await filled(log, 1)
        await asyncio.wait_for(asyncio.to_thread(log.close), 10)
        assert log.lost > 0

    asyncio.run(run())
    disk.is_full = False
    home.serve(1)
    assert home.verify().is_sound


@pytest.mark.parametrize("policy", ["refuse", "degrade"])
def test_the_inbox_is_bounded(home: Home, policy: str) -> None:
    async def run() -> None:
        log = AuditLog(home.directory, Audit(when_full=policy, inbox=16))  # type: ignore[arg-type]
        places = [log.admit() for _ in range(16)]  # requests that are under way
        if policy == "refuse":
            with pytest.raises(Overloaded) as refused:
                log.admit()
            assert refused.value.retry_after
        else:
            log.admit().fill(log.entry("request"))
            assert log.lost == 1
        log.admit(always=True).fill(log.entry("request"))
        assert log.waiting == 16
        log.start()
        for place in places:
            place.fill(log.entry("request"))
        await settled(lambda: not log.waiting)
        log.admit()
        await asyncio.to_thread(log.close)

    asyncio.run(run())
    assert home.verify().is_sound


def test_the_loop_is_not_held_by_a_slow_disk(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    real = writer._write_whole

    def slow(descriptor: int, content: bytes) -> None:
        time.sleep(0.3)
        real(descriptor, content)

    monkeypatch.setattr(writer, "_write_whole", slow)

    async def run() -> float:
        log = AuditLog(home.directory, Audit())
        log.start()
        await asyncio.sleep(0.05)  # the thread is with the disk
        begun = time.perf_counter()
        for _ in range(100):
            log.admit().fill(log.entry("request"))
        took = time.perf_counter() - begun
        await asyncio.to_thread(log.close)
        return took

    assert asyncio.run(run()) < 0.2
    assert home.verify().lines == 102


def test_old_files_go_by_age(home: Home) -> None:
    small = Audit(file_bytes=4096, days=30)
    for _ in range(4):
        home.serve(12, small)
    files = log_files(home.directory)
    assert len(files) > 2
    long_ago = (datetime.now(UTC) - timedelta(days=31)).timestamp()
    os.utime(files[0].path, (long_ago, long_ago))
    home.serve(1, small)
    assert [file.first for file in log_files(home.directory)[: len(files) - 1]] == [
        f.first for f in files[1:]
    ]
    assert home.verify().is_sound


def test_checkpoints_are_exported_and_compared(home: Home, tmp_path: Path) -> None:
    elsewhere = tmp_path / "checkpoints.jsonl"
    for _ in range(3):
        home.serve(3, Audit(checkpoint_file=str(elsewhere)))
    exported = read_checkpoints(elsewhere)
    assert len(exported) >= 3
    report = home.verify(*exported)
    assert report.is_sound
    assert report.checkpoints == len(exported)


def test_checkpoints_are_exported_in_time(home: Home, tmp_path: Path) -> None:
    """Not more often than the settings say, but at once when the clock was set back."""
    elsewhere = tmp_path / "checkpoints.jsonl"
    day = datetime(2030, 1, 1, tzinfo=UTC)
    now = [day]

    async def run() -> None:
        log = AuditLog(
            home.directory, Audit(checkpoint_file=str(elsewhere), checkpoint_seconds=60), lambda: now[0]
        )
        log.start()
        for number, (at, exported) in enumerate([(0, 1), (30, 1), (61, 2), (-3600, 3)]):
            now[0] = day + timedelta(seconds=at)
            await filled(log, 1, number)
            await settled(lambda exported=exported: len(read_checkpoints(elsewhere)) >= exported)  # type: ignore[misc]
            assert len(read_checkpoints(elsewhere)) == exported
        await asyncio.to_thread(log.close)

    asyncio.run(run())
    assert home.verify(*read_checkpoints(elsewhere)).is_sound


def test_upkeep_that_fails_is_told_and_harms_nothing(
    home: Home, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    home.serve(3, Audit(checkpoint_file=str(tmp_path / "none" / "checkpoints.jsonl")))
    assert "upkeep of the audit log" in caplog.text
    assert home.verify().is_sound


def test_an_idle_log_keeps_up_too(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Retention waits for no request: files become too old while nobody asks."""
    monkeypatch.setattr("appliance.security.audit.log.UPKEEP_SECONDS", 0.05)
    small = Audit(file_bytes=4096, days=30)
    for _ in range(3):
        home.serve(12, small)
    before = log_files(home.directory)

    async def run() -> None:
        log = AuditLog(home.directory, small)
        log.start()
        await settled(lambda: not log.waiting)
        newest = log.newest
        await asyncio.sleep(0.2)
        assert log.newest == newest, "nothing is written where nothing happens"
        long_ago = (datetime.now(UTC) - timedelta(days=31)).timestamp()
        os.utime(before[0].path, (long_ago, long_ago))
        await settled(lambda: not before[0].path.exists())
        assert log.verify().is_sound
        await asyncio.to_thread(log.close)

    asyncio.run(run())


def test_a_place_that_is_given_back_is_free(home: Home) -> None:
    log = AuditLog(home.directory, Audit(when_full="refuse", inbox=16))
    places = [log.admit() for _ in range(16)]
    with pytest.raises(Overloaded):
        log.admit()
    places[0].give_back()
    assert log.waiting == 15
    log.admit().give_back()
    log.close()


@pytest.mark.parametrize("most", [1, 7])
def test_many_lines_at_once_are_written_in_several_steps(
    home: Home, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr("appliance.security.audit.log.BATCH_LINES", most)

    async def run() -> None:
        log = AuditLog(home.directory, Audit())
        for _ in range(100):
            log.admit().fill(log.entry("request", status=200))
        log.start()
        await settled(lambda: not log.waiting)
        status = log.status()
        assert (status.newest, status.waiting, status.lost, status.failing) == (101, 0, 0, "")
        assert status.bytes == sum(file.path.stat().st_size for file in log_files(home.directory))
        assert log.hash_of("ada") == log.entry("request", user="ada").user != log.hash_of("bob")
        await asyncio.to_thread(log.close)

    asyncio.run(run())
    assert home.verify().lines == 102


def test_a_log_outlives_the_loop_that_was_told_of_its_lines(home: Home) -> None:
    log = AuditLog(home.directory, Audit())

    async def run() -> None:
        log.start()
        await filled(log, 1)

    asyncio.run(run())
    log.admit().fill(log.entry("request", status=200))  # nobody is left to be told
    log.close()
    assert home.verify().lines == 4


def test_a_disk_that_does_not_answer_does_not_hold_the_stop(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.security.audit.log.STOP_SECONDS", 0.1)
    monkeypatch.setattr("appliance.security.audit.log.LONGEST_PAUSE", 0.1)
    answers = threading.Event()
    real = writer._write_whole

    def hang(descriptor: int, content: bytes) -> None:
        answers.wait(20)
        real(descriptor, content)

    monkeypatch.setattr(writer, "_write_whole", hang)

    async def run() -> AuditLog:
        log = AuditLog(home.directory, Audit())
        log.start()
        log.close()
        return log

    log = asyncio.run(run())
    assert log._thread.is_alive()
    answers.set()
    log._thread.join(20)
    assert not log._thread.is_alive()
    log._writer.close()
    assert home.verify().is_sound


def test_an_end_that_is_not_genuine_is_told_at_the_start(home: Home) -> None:
    home.serve(3)
    home.change(lambda lines: [*lines[:-1], lines[-1].replace(b'"stop"', b'"lost"')])
    home.serve(1)
    faults = {(finding.fault, finding.seq) for finding in home.verify().findings}
    assert ("edited", 5) in faults
    assert ("noted", 6) in faults


def test_an_end_that_is_not_genuine_with_nothing_to_remember_it(home: Home) -> None:
    home.serve(3)
    home.change(lambda lines: [*lines[:-1], lines[-1].replace(b'"stop"', b'"lost"')])
    (home.directory / HEAD).unlink()
    home.serve(1)
    assert not home.verify().is_sound


def test_a_newest_file_that_is_empty_is_no_end(home: Home) -> None:
    """A power cut between a new file and its first line."""
    home.serve(3)
    log_path(home.directory, 6).touch()
    home.serve(1)
    report = home.verify()
    assert report.is_sound, report.findings
    assert report.last == 8


def test_files_that_are_all_empty_are_told(home: Home) -> None:
    home.serve(3)
    home.change(lambda lines: [])
    home.serve(1)
    assert {"deleted", "noted"} <= home.faults()


def test_a_log_of_empty_files_that_never_had_a_line_is_new(home: Home) -> None:
    home.directory.mkdir()
    log_path(home.directory, 1).touch()
    home.serve(1)
    assert home.verify().is_sound


def test_one_process_writes_a_log(home: Home) -> None:
    log = AuditLog(home.directory, Audit())
    with pytest.raises(SetupError, match="in use by another Hearth"):
        AuditLog(home.directory, Audit())
    log.close()


def test_a_key_that_is_gone_is_told_rather_than_replaced(home: Home) -> None:
    home.serve(1)
    (home.directory / "key").write_text("nonsense")
    with pytest.raises(SetupError, match="key"):
        AuditLog(home.directory, Audit())
