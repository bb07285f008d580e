"""The check of a whole audit log: each line by itself, the chain, its end, and checkpoints kept elsewhere.

Reads only; a server may go on writing meanwhile. What can be found without a checkpoint: everything that
somebody without the key does. With a checkpoint, also a chain that was made anew with the key.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from appliance.audit import AuditCheckpoint, AuditFinding, AuditReport, Fault
from appliance.security.audit.chain import BEGINNING, SealedLine, read_line
from appliance.security.audit.files import HEAD, lines_of, log_files
from appliance.security.audit.head import read_head

MOST_FINDINGS = 1000


def verify_log(directory: Path, key: bytes, checkpoints: Iterable[AuditCheckpoint] = ()) -> AuditReport:
    """What is wrong with the log in `directory`. Raises OSError where it cannot be read."""
    head = read_head(key, directory / HEAD)  # before the lines: those that come meanwhile do no harm
    check = _Check({each.seq: each for each in checkpoints})
    files = log_files(directory)
    for file in files:
        for number, raw in enumerate(lines_of(file.path), 1):
            line = read_line(key, raw)
            if line is None:
                check.unreadable(file.path.name, number)
            else:
                check.take(line, file.path.name)
    if head is not None:
        check.end(head.seq)
    elif files:
        check.find(
            "head", "the file that remembers the log's end is missing or damaged: a cut would not show"
        )
    return check.report()


def read_checkpoints(path: Path) -> list[AuditCheckpoint]:
    """The checkpoints of an exported file. Raises OSError, msgspec.MsgspecError."""
    decoder = msgspec.json.Decoder(AuditCheckpoint)
    return [decoder.decode(line) for line in path.read_bytes().splitlines() if line.strip()]


class _Check:
    """The chain as far as it was read. `gaps`: numbers that were passed over, as [first, last]."""

    def __init__(self, checkpoints: dict[int, AuditCheckpoint]) -> None:
        self._checkpoints = checkpoints
        self._compared: set[int] = set()
        self._findings: list[AuditFinding] = []
        self._lines = self._first = self._last = self._kept_from = 0
        self._mac: str | None = BEGINNING.mac  # of the last line; None where nothing can follow from it
        self._gaps: list[list[int]] = []

    def find(self, fault: Fault, message: str, seq: int = 0, file: str = "") -> None:
        if len(self._findings) < MOST_FINDINGS:
            self._findings.append(AuditFinding(fault=fault, message=message, seq=seq, file=file))

    def unreadable(self, file: str, number: int) -> None:
        self.find("unreadable", f"line {number} of the file is no line of an audit log", file=file)
        self._mac = None

    def take(self, line: SealedLine, file: str) -> None:
        entry = line.entry
        self._lines += 1
        if not line.is_genuine:
            self.find("edited", f"line {entry.seq} was changed: its HMAC does not fit", entry.seq, file)
        if self._first == 0:
            self._first = entry.seq
            self._mac = self._mac if entry.seq == 1 else None
        elif entry.seq <= self._last:
            self._out_of_order(line, file)
            return
        elif entry.seq > self._last + 1:
            self._gaps.append([self._last + 1, entry.seq - 1])
            self._mac = None
        if line.is_genuine and self._mac is not None and entry.prev != self._mac:
            self.find(
                "replaced", f"line {entry.seq} followed another line than {entry.seq - 1}", entry.seq, file
            )
        self._last = entry.seq
        self._mac = line.mac if line.is_genuine else None
        if line.is_genuine:
            self._compare(line, file)
            self._note(line, file)

    def end(self, head: int) -> None:
        """The number that the log had reached."""
        if head > self._last:
            missing = _span(self._last + 1, head)
            self.find("cut", f"the end was cut off: {missing} had been written", self._last + 1)

    def report(self) -> AuditReport:
        if self._first > max(1, self._kept_from):
            self.find(
                "deleted",
                f"the beginning is missing: {_span(1, self._first - 1)}, and no retention says why",
                1,
            )
        for first, last in self._gaps:
            self.find("deleted", f"{_span(first, last)} missing", first)
        for seq in sorted(set(self._checkpoints) - self._compared):
            if seq > self._last:
                self.find("cut", f"the log ends at {self._last}; a checkpoint names line {seq}", seq)
        return AuditReport(
            is_sound=all(finding.fault == "lost" for finding in self._findings),
            lines=self._lines,
            first=self._first,
            last=self._last,
            checkpoints=len(self._compared),
            findings=tuple(self._findings),
        )

    def _out_of_order(self, line: SealedLine, file: str) -> None:
        seq = line.entry.seq
        for gap in self._gaps:
            if gap[0] <= seq <= gap[1]:
                rest = [[gap[0], seq - 1], [seq + 1, gap[1]]]
                at = self._gaps.index(gap)
                self._gaps[at : at + 1] = [each for each in rest if each[0] <= each[1]]
                self.find("reordered", f"line {seq} stands behind line {self._last}", seq, file)
                if line.is_genuine:
                    self._compare(line, file)
                return
        self.find("reordered", f"line {seq} is there twice, or out of its place", seq, file)

    def _compare(self, line: SealedLine, file: str) -> None:
        checkpoint = self._checkpoints.get(line.entry.seq)
        if checkpoint is None:
            return
        self._compared.add(line.entry.seq)
        if checkpoint.mac != line.mac:
            self.find(
                "rewritten",
                f"line {line.entry.seq} is not the one of the checkpoint of {checkpoint.time}: the log "
                "was made anew up to there",
                line.entry.seq,
                file,
            )

    def _note(self, line: SealedLine, file: str) -> None:
        entry = line.entry
        self._kept_from = max(self._kept_from, entry.kept_from)
        if entry.event == "start" and entry.detail:
            self.find("noted", f"a server found at its start: {entry.detail}", entry.seq, file)
        if entry.event == "lost":
            self.find(
                "lost", f"{entry.count} lines could not be written before line {entry.seq}", entry.seq, file
            )


def _span(first: int, last: int) -> str:
    return f"line {first}" if first == last else f"lines {first} to {last}"
