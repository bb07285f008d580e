"""Whose trace a request belongs to, as W3C Trace Context has it (https://www.w3.org/TR/trace-context/).

A request that brings a `traceparent` goes on in that trace; another begins one. Logs, audit lines and calls
to upstreams carry it. This module reads and writes the two headers, and holds the context of what runs now.
"""

from __future__ import annotations

import re
import secrets
from contextvars import ContextVar

from msgspec import Struct

MOST_STATE_CHARACTERS = 512  # what the standard wants to be passed on at least
MOST_STATE_MEMBERS = 32
_PARENT = re.compile(r"\A([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?\Z")
_STATE_MEMBER = re.compile(
    r"\A[ \t]*([a-z0-9][a-z0-9_\-*/@]{0,255}=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,256})?[ \t]*\Z"
)


class TraceContext(Struct, frozen=True, kw_only=True):
    """`span`: this server's own part; `parent`: that of whoever asked, empty where nobody said."""

    trace: str
    span: str
    parent: str = ""
    flags: str = "00"
    state: str = ""

    def traceparent(self, span: str = "") -> str:
        """The header for whoever is asked next, in whose eyes `span` (by default this one) is the parent."""
        return f"00-{self.trace}-{span or self.span}-{self.flags}"


current: ContextVar[TraceContext | None] = ContextVar("trace", default=None)


def begin(traceparent: str = "", tracestate: str = "") -> TraceContext:
    """The context of a request with these headers: in the trace that they name, or in a fresh one.

    A header that is malformed counts as none, and so does the state that came with it, as the standard says.
    """
    found = _PARENT.match(traceparent.strip())
    if found is not None:
        version, trace, parent, flags, more = found.groups()
        is_valid = version != "ff" and not (version == "00" and more) and _some(trace) and _some(parent)
        if is_valid:
            return TraceContext(
                trace=trace,
                span=new_span(),
                parent=parent,
                flags="01" if int(flags, 16) & 1 else "00",
                state=_checked_state(tracestate),
            )
    return TraceContext(trace=secrets.token_hex(16), span=new_span())


def new_span() -> str:
    return secrets.token_hex(8)


def _some(id: str) -> str:
    """Empty for an id of zeros, which the standard calls invalid."""
    return id.strip("0")


def _checked_state(state: str) -> str:
    """The list as it came, or nothing: what cannot be read is not passed on."""
    members = state.split(",")
    if len(state) > MOST_STATE_CHARACTERS or len(members) > MOST_STATE_MEMBERS:
        return ""
    return state.strip() if all(_STATE_MEMBER.match(member) for member in members) else ""
