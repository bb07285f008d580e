"""Entries out of the log's files, a page at a time, in their order. Checks nothing: that is `verify`."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import msgspec

from appliance.audit import AuditEntry, AuditPage
from appliance.security.audit.files import LogFile, lines_of, log_files

_decoder = msgspec.json.Decoder(AuditEntry)


def page_after(directory: Path, seq: int, limit: int, newest: int) -> AuditPage:
    """Up to `limit` entries behind the number `seq`."""
    files = log_files(directory)
    begin = max(0, bisect_right([file.first for file in files], seq + 1) - 1)
    data: list[AuditEntry] = []
    for file in files[begin:]:
        for entry in _entries(file):
            if entry.seq > seq:
                data.append(entry)
            if len(data) >= limit:
                return _page(data, seq, newest)
    return _page(data, seq, newest)


def page_before(directory: Path, seq: int, limit: int, newest: int) -> AuditPage:
    """The newest `limit` entries in front of the number `seq`."""
    data: deque[AuditEntry] = deque()
    for file in reversed(log_files(directory)):
        if file.first >= seq:
            continue
        tail: deque[AuditEntry] = deque(maxlen=limit - len(data))
        tail.extend(entry for entry in _entries(file) if entry.seq < seq)
        data.extendleft(reversed(tail))
        if len(data) >= limit:
            break
    return _page(list(data), 0, newest)


def _entries(file: LogFile) -> Iterator[AuditEntry]:
    """A file that retention takes away meanwhile, or a line that is none, is left out."""
    try:
        for line in lines_of(file.path):
            try:
                yield _decoder.decode(line)
            except msgspec.MsgspecError:
                continue
    except FileNotFoundError:
        return


def _page(data: list[AuditEntry], seq: int, newest: int) -> AuditPage:
    return AuditPage(data=tuple(data), last=data[-1].seq if data else seq, newest=newest)
