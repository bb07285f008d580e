"""Entries out of the log's files, a page at a time, in their order. Checks nothing: that is `verify`."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path

import msgspec

from appliance.audit import AuditEntry, AuditPage
from appliance.security.audit.files import LogFile, lines_of, log_files

Wanted = Callable[[AuditEntry], bool]
_decoder = msgspec.json.Decoder(AuditEntry)


def page_after(directory: Path, seq: int, limit: int, newest: int, wanted: Wanted) -> AuditPage:
    """Up to `limit` wanted entries behind the number `seq`."""
    files = log_files(directory)
    begin = max(0, bisect_right([file.first for file in files], seq + 1) - 1)
    entries = chain.from_iterable(_entries(file) for file in files[begin:])
    return first_of(entries, seq, limit, newest, wanted)


def first_of(entries: Iterable[AuditEntry], seq: int, limit: int, newest: int, wanted: Wanted) -> AuditPage:
    """The same out of `entries`. `last` of the page is how far was looked, so that the next goes on there."""
    data: list[AuditEntry] = []
    for entry in entries:
        if entry.seq > seq:
            seq = entry.seq
            if wanted(entry):
                data.append(entry)
                if len(data) >= limit:
                    break
    return AuditPage(data=tuple(data), last=seq, newest=newest)


def page_before(directory: Path, seq: int, limit: int, newest: int, wanted: Wanted) -> AuditPage:
    """The newest `limit` wanted entries in front of the number `seq`."""
    data: deque[AuditEntry] = deque()
    for file in reversed(log_files(directory)):
        if file.first >= seq:
            continue
        tail: deque[AuditEntry] = deque(maxlen=limit - len(data))
        tail.extend(entry for entry in _entries(file) if entry.seq < seq and wanted(entry))
        data.extendleft(reversed(tail))
        if len(data) >= limit:
            break
    return AuditPage(data=tuple(data), last=data[-1].seq if data else 0, newest=newest)


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
