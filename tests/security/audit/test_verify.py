"""What a check of the audit log finds: each thing that can be done to a log, by somebody without the key and
with it.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.audit import AuditCheckpoint, AuditEntry
from appliance.config.audit import Audit
from appliance.security.audit.chain import seal
from appliance.security.audit.files import HEAD, KEY, log_files, read_key
from appliance.security.audit.verify import verify_log
from tests.security.audit.conftest import Home

LINES = 12  # start, ten requests, stop


def test_an_untouched_log_is_sound_over_several_servers(home: Home) -> None:
    checkpoints = [home.serve(), home.serve(5), home.serve(0)]
    report = home.verify(*checkpoints)
    assert report.is_sound
    assert report.findings == ()
    assert (report.first, report.last, report.lines) == (1, 12 + 7 + 2, 21)
    assert report.checkpoints == 3


def test_an_edited_line_is_found(home: Home) -> None:
    home.serve()
    home.change(lambda lines: [*lines[:4], lines[4].replace(b'"status":200', b'"status":403'), *lines[5:]])
    report = home.verify()
    assert not report.is_sound
    assert [(finding.fault, finding.seq) for finding in report.findings] == [("edited", 5)]


@pytest.mark.parametrize("place", [1, 5, LINES - 2])
def test_a_deleted_line_is_found(home: Home, place: int) -> None:
    home.serve()
    home.change(lambda lines: lines[:place] + lines[place + 1 :])
    report = home.verify()
    assert [(finding.fault, finding.seq) for finding in report.findings] == [("deleted", place + 1)]


def test_a_deleted_beginning_is_found(home: Home) -> None:
    home.serve()
    home.change(lambda lines: lines[3:])
    assert home.faults() == {"deleted"}


def test_reordered_lines_are_found(home: Home) -> None:
    home.serve()
    home.change(lambda lines: [*lines[:3], lines[4], lines[3], *lines[5:]])
    report = home.verify()
    assert [(finding.fault, finding.seq) for finding in report.findings] == [("reordered", 4)]


def test_a_repeated_line_is_found(home: Home) -> None:
    home.serve()
    home.change(lambda lines: [*lines[:4], lines[3], *lines[4:]])
    assert home.faults() == {"reordered"}


@pytest.mark.parametrize("count", [1, 4, LINES])
def test_a_cut_tail_is_found(home: Home, count: int) -> None:
    home.serve()
    home.change(lambda lines: lines[: LINES - count])
    assert "cut" in home.faults()


def test_a_cut_tail_stays_found_when_a_server_has_gone_on(home: Home) -> None:
    home.serve()
    home.change(lambda lines: lines[:-3])
    home.serve(3)
    faults = {(finding.fault, finding.seq) for finding in home.verify().findings}
    assert ("deleted", LINES - 2) in faults
    assert ("noted", LINES + 1) in faults


def test_a_cut_that_takes_the_head_along_is_found(home: Home) -> None:
    home.serve()
    home.change(lambda lines: lines[:-3])
    (home.directory / HEAD).unlink()
    assert home.faults() == {"head"}
    home.serve(1)
    assert home.faults() == {"noted"}, "and stays found when a server has made a new one"


def test_no_log_is_no_fault(home: Home) -> None:
    home.directory.mkdir()
    report = verify_log(home.directory, bytes(32))
    assert (report.is_sound, report.lines, report.findings) == (True, 0, ())


def test_a_line_put_in_with_the_key_does_not_follow_from_the_one_before(home: Home) -> None:
    home.serve()
    key = read_key(home.directory / KEY)

    def replace_fifth(lines: list[bytes]) -> list[bytes]:
        entry = msgspec.json.decode(lines[4], type=AuditEntry)
        forged, _ = seal(key, msgspec.structs.replace(entry, status=204, prev="0" * 64))
        return [*lines[:4], forged, *lines[5:]]

    home.change(replace_fifth)
    report = home.verify()
    assert [(finding.fault, finding.seq) for finding in report.findings] == [("replaced", 5), ("replaced", 6)]


def test_lines_behind_several_gaps_are_put_where_they_belong(home: Home) -> None:
    """Lines 6 and 3 were moved to the end, the second changed as well."""
    home.serve()
    edited = [lambda line: line, lambda line: line.replace(b'"status":200', b'"status":201')]
    home.change(
        lambda lines: [
            *(line for n, line in enumerate(lines, 1) if n not in (3, 6)),
            *(edit(lines[n - 1]) for edit, n in zip(edited, (6, 3), strict=True)),
        ]
    )
    found = sorted((finding.fault, finding.seq) for finding in home.verify().findings)
    assert found == [("edited", 3), ("reordered", 3), ("reordered", 6)]


def test_a_checkpoint_of_a_line_that_is_gone_adds_nothing_to_its_loss(home: Home) -> None:
    home.serve(4)
    checkpoint = home.serve(4)
    home.change(lambda lines: [line for line in lines if f'"seq":{checkpoint.seq},'.encode() not in line])
    report = home.verify(checkpoint)
    assert [(finding.fault, finding.seq) for finding in report.findings] == [("deleted", checkpoint.seq)]
    assert report.checkpoints == 0


def test_findings_are_bounded(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.security.audit.verify.MOST_FINDINGS", 3)
    home.serve()
    home.change(lambda lines: [b"no line\n"] * len(lines))
    report = home.verify()
    assert len(report.findings) == 3
    assert not report.is_sound


def test_a_line_of_ones_own_is_found(home: Home) -> None:
    home.serve()
    forged = b'{"seq":13,"time":"2030-01-01T00:00:00+00:00"}\n'
    home.change(lambda lines: [*lines, forged])
    assert home.faults() == {"unreadable"}
    home.change(lambda lines: [*lines[:-1], lines[-2].replace(b'"seq":12', b'"seq":13')])
    assert home.faults() == {"edited"}


def test_a_log_made_anew_with_its_key_is_found_by_a_checkpoint(home: Home, tmp_path: Path) -> None:
    checkpoint = home.serve()
    key = (home.directory / KEY).read_bytes()
    shutil.rmtree(home.directory)
    home.directory.mkdir()
    (home.directory / KEY).write_bytes(key)
    home.serve()
    assert home.verify().is_sound, "nothing is wrong with the new one by itself"
    assert home.faults(checkpoint) == {"rewritten"}


def test_a_checkpoint_beyond_the_log_is_a_cut(home: Home) -> None:
    checkpoint = home.serve()
    shutil.rmtree(home.directory)
    home.serve(0)
    assert home.faults(checkpoint) == {"cut"}


def test_what_retention_removes_is_not_missed_and_what_others_remove_is(home: Home) -> None:
    small = Audit(file_bytes=4096, bytes=16_384)
    for _ in range(20):
        checkpoint = home.serve(8, small)
    files = log_files(home.directory)
    assert 1 < len(files) < 8
    report = home.verify(checkpoint)
    assert report.is_sound, report.findings
    assert report.first > 1
    files[0].path.unlink()
    assert home.faults() == {"deleted"}


def test_another_key_finds_every_line_changed(home: Home, tmp_path: Path) -> None:
    home.serve(2)
    report = verify_log(home.directory, bytes(32))
    assert len([finding for finding in report.findings if finding.fault == "edited"]) == report.lines


def test_a_torn_last_line_is_no_tampering(home: Home) -> None:
    home.serve()
    path = log_files(home.directory)[-1].path
    with path.open("ab") as file:
        file.write(b'{"seq":13,"time":"20')
    assert home.verify().is_sound
    home.serve(1)
    report = home.verify()
    assert report.is_sound, report.findings
    assert report.last == LINES + 3


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(data=st.data())
def test_any_change_of_any_byte_is_found(home: Home, data: st.DataObject) -> None:
    if not home.directory.exists():
        home.serve(4)
    path = log_files(home.directory)[-1].path
    whole = path.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    value = data.draw(st.integers(0, 255).filter(lambda value: value != whole[place]))
    try:
        path.write_bytes(whole[:place] + bytes([value]) + whole[place + 1 :])
        assert not home.verify().is_sound
    finally:
        path.write_bytes(whole)


def test_the_key_is_the_owners_alone(home: Home) -> None:
    home.serve(0)
    assert (home.directory / KEY).stat().st_mode & 0o077 == 0
    assert log_files(home.directory)[0].path.stat().st_mode & 0o077 == 0
    assert len(read_key(home.directory / KEY)) == 32


def test_checkpoint_type_round_trips(home: Home) -> None:
    checkpoint = home.serve(1)
    assert isinstance(checkpoint, AuditCheckpoint)
    assert checkpoint.seq == 2
