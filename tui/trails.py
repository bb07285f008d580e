"""Lines of the audit log and of the server's own log as rows and in words; filters as they are written. Pure.

A filter is words such as `model:big status:400 route:online user:bob sensitive`; other words must occur in
the line.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from textual.content import Content

from appliance.admin import LogLine
from appliance.audit import AuditCheckpoint, AuditEntry, AuditReport
from appliance.errors import InvalidValue
from tui import format
from tui.language import has, say
from tui.widgets.table import Cell

FILTERS = ("user", "model", "trace", "route", "status")
LEVELS = ("debug", "info", "warning", "error")
LEVEL_STYLES = {
    "DEBUG": "$foreground-muted",
    "WARNING": "$text-warning",
    "ERROR": "$text-error",
    "CRITICAL": "$text-error",
}
FLAW, FAULT = 400, 500
USER_CELLS = 10
LABEL_CELLS = 16


class Filter(NamedTuple):
    """`asked`: what the server selects by; `words`: what has to occur in a line."""

    asked: dict[str, Any]
    words: tuple[str, ...]

    def takes(self, text: str) -> bool:
        lowered = text.lower()
        return all(word in lowered for word in self.words)


def audit_filter(text: str) -> Filter:
    """Raises InvalidValue for a filter that there is not."""
    asked: dict[str, Any] = {}
    words: list[str] = []
    for word in text.split():
        name, separator, value = word.partition(":")
        if word == "sensitive":
            asked["sensitive"] = True
        elif not separator:
            words.append(word.lower())
        elif name not in FILTERS:
            raise InvalidValue(say("audit.no_filter", name=name, known=", ".join(FILTERS)))
        elif name == "status":
            asked[name] = _status(value)
        else:
            asked[name] = value
    return Filter(asked, tuple(words))


def log_filter(text: str) -> Filter:
    """Raises InvalidValue for a level that there is not."""
    level, words = "info", list[str]()
    for word in text.split():
        name, separator, value = word.partition(":")
        if separator and name == "level":
            if value not in LEVELS:
                raise InvalidValue(say("audit.no_level", level=value, known=", ".join(LEVELS)))
            level = value
        else:
            words.append(word.lower())
    return Filter({"level": level}, tuple(words))


def audit_rows(entries: Sequence[AuditEntry]) -> dict[str, tuple[Cell, ...]]:
    """Newest first."""
    return {str(entry.seq): _audit_row(entry) for entry in reversed(entries)}


def entry_text(entry: AuditEntry) -> str:
    """All that a word may be looked for in."""
    parts = (entry.endpoint, entry.model, entry.event, entry.user, entry.detail, entry.platform)
    return " ".join((*parts, str(entry.status)))


def described(entry: AuditEntry) -> Content:
    """A line of the audit log, whole."""
    facts = [
        ("when", entry.time),
        ("request", " ".join(filter(None, (entry.request, entry.trace)))),
        ("user", entry.user),
        ("tokens", _tokens(entry)),
        ("found", ", ".join(entry.kinds)),
        ("privacy", entry.privacy),
        ("detail", entry.detail),
        ("prompt", entry.prompt),
    ]
    return Content("\n").join(
        Content.assemble((format.fit(say(f"audit.{name}"), LABEL_CELLS), "$foreground-muted"), text)
        for name, text in facts
        if text
    )


def log_rows(lines: Sequence[LogLine]) -> dict[str, tuple[Cell, ...]]:
    """Newest first; of a line that is several, the first."""
    return {
        str(line.number): (
            datetime.fromtimestamp(line.time).strftime("%H:%M:%S"),
            Content.styled(line.level.lower(), LEVEL_STYLES.get(line.level, "")),
            line.logger.removeprefix("hearth."),
            line.message.partition("\n")[0],
        )
        for line in reversed(lines)
    }


def checkpoints_of(text: str) -> tuple[AuditCheckpoint, ...]:
    """The checkpoints of a file, one a line. Raises InvalidValue for one that holds none, or other lines."""
    found: list[AuditCheckpoint] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            try:
                found.append(msgspec.json.decode(line, type=AuditCheckpoint))
            except msgspec.MsgspecError:
                raise InvalidValue(say("audit.no_checkpoint", line=number)) from None
    if not found:
        raise InvalidValue(say("audit.no_checkpoints"))
    return tuple(found)


def checkpoint_line(checkpoint: AuditCheckpoint) -> str:
    return msgspec.json.encode(checkpoint).decode()


def verdict(report: AuditReport, given: int = 0) -> Content:
    """What a check of the chain found; `given`: checkpoints it was to be compared with."""
    head = (
        Content.styled(f"✓ {say('audit.sound')}", "bold $text-success")
        if report.is_sound
        else Content.styled(f"✗ {say('audit.unsound')}", "bold $text-error")
    )
    lines = [
        head,
        Content(say("audit.checked", lines=f"{report.lines:,}", first=report.first, last=report.last)),
    ]
    if given:
        style = "" if report.checkpoints == given else "$text-warning"
        told = say("audit.compared", count=report.checkpoints, given=given)
        lines.append(Content.styled(told, style))
    for finding in report.findings:
        where = f" ({finding.seq})" if finding.seq else ""
        lines.append(
            Content.assemble(
                (f"✗ {finding.fault}{where} ", "$text-error"), finding.message, f"  {finding.file}"
            )
        )
    return Content("\n").join(lines)


def _audit_row(entry: AuditEntry) -> tuple[Cell, ...]:
    route = say(f"route.{entry.route}") if entry.route else "–"
    what = entry.endpoint or (say(f"event.{entry.event}") if has(f"event.{entry.event}") else entry.event)
    flags = Content.styled("⚠" if entry.sensitive else "", "$text-warning")
    return (
        _clock(entry.time),
        format.shorten(what, 30),
        _coloured(entry.status),
        format.seconds(entry.seconds),
        format.shorten(entry.user, USER_CELLS),
        format.shorten(entry.model, 22) or "–",
        route,
        flags,
    )


def _coloured(status: int) -> Content:
    if not status:
        return Content("–")
    style = "$text-error" if status >= FAULT else "$text-warning" if status >= FLAW else "$text-success"
    return Content.styled(str(status), style)


def _clock(time: str) -> str:
    """Local time of day, with the day where it is not today."""
    try:
        when = datetime.fromisoformat(time).astimezone()
    except ValueError:
        return time
    return when.strftime("%H:%M:%S" if when.date() == datetime.now().date() else "%m-%d %H:%M")


def _tokens(entry: AuditEntry) -> str:
    tokens = entry.tokens
    if not tokens.prompt and not tokens.completion:
        return ""
    return f"{tokens.prompt:,} → {tokens.completion:,}"


def _status(text: str) -> int:
    if not text.isdecimal() or int(text) > 599:
        raise InvalidValue(say("audit.no_status", text=text))
    return int(text)
