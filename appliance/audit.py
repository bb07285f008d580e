"""The records of the audit log: what a line says, what a check found. The server writes, the client reads.

Plain data. A line on the disk is an `AuditEntry` as JSON with its `mac` behind it; `security.audit` owns the
chain. Users are keyed hashes of their names: equal for the same user of one log, and not to be turned back
without the log's key.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

# request: one HTTP request; background: the work that one left behind; batch: one line of a batch.
# start, stop: of the server. lost: lines that could not be written. retention: old lines were removed.
Event = Literal["request", "background", "batch", "tool", "start", "stop", "lost", "retention"]
Privacy = Literal["", "told", "redacted", "kept-local"]
Fault = Literal[
    "edited", "deleted", "reordered", "replaced", "cut", "rewritten", "unreadable", "head", "lost", "noted"
]


class AuditTokens(Struct, frozen=True, kw_only=True):
    prompt: int = 0
    cached: int = 0
    completion: int = 0


class AuditEntry(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`time` is ISO 8601 in UTC. `route`: local, online, or empty where no model was asked. `kinds`: what
    `sensitive` was found, never the text. `prompt` is there only for keys that opted in. `count` belongs to
    `lost`, `kept_from` (the first line that is kept) to `retention`. `prev`: the `mac` of the line before.
    """

    seq: int
    time: str
    event: Event
    trace: str
    request: str
    user: str
    endpoint: str
    model: str
    route: str
    status: int
    sensitive: bool
    tokens: AuditTokens
    seconds: float
    platform: str = ""
    kinds: tuple[str, ...] = ()
    privacy: Privacy = ""
    prompt: str = ""
    detail: str = ""
    count: int = 0
    kept_from: int = 0
    prev: str = ""


class AuditPage(Struct, frozen=True, kw_only=True):
    """Entries in their order. `after` of the next page is `last`; `newest` is the log's last line."""

    data: tuple[AuditEntry, ...]
    last: int
    newest: int


class AuditStatus(Struct, frozen=True, kw_only=True):
    """`failing`: why lines cannot be written now. `waiting`: lines that are yet to be written; `lost`: that
    never were, since the start. `bytes`: of all files together.
    """

    enabled: bool
    when_full: str = ""
    newest: int = 0
    waiting: int = 0
    lost: int = 0
    failing: str = ""
    files: int = 0
    bytes: int = 0
    directory: str = ""


class AuditFinding(Struct, frozen=True, kw_only=True):
    """Something that should not be. `seq` is 0 where no line is meant, `file` empty where none is."""

    fault: Fault
    message: str
    seq: int = 0
    file: str = ""


class AuditCheckpoint(Struct, frozen=True, kw_only=True):
    """The log up to `seq` in one number. Kept elsewhere, it shows that nothing before it was changed since,
    even by somebody who has the log's key.
    """

    seq: int
    time: str
    mac: str


class AuditCheck(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What to check the log against: checkpoints that were exported earlier."""

    checkpoints: Annotated[tuple[AuditCheckpoint, ...], Meta(max_length=10_000)] = ()


class AuditReport(Struct, frozen=True, kw_only=True):
    """What a check of the whole log found. `checkpoints`: how many could be compared with a line. `is_sound`:
    nobody has changed it; lines that a full disk took none of are told, and are no change.
    """

    is_sound: bool
    lines: int
    first: int
    last: int
    checkpoints: int
    findings: tuple[AuditFinding, ...]
