"""What a request hears of its place before its first token, and what its stream says of it meanwhile.

A stream that waits says so in comments, which clients skip and proxies take for life. Knows no scheduler: it
is told, by whoever generates.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from appliance.records import Accepted, Progress

EARLY_SECONDS = 1.0  # what has been accepted so long and has not begun gets its headers now


class Waiting:
    """One generation's. `accepted` is set once it will surely be answered here, if not soon."""

    def __init__(self) -> None:
        self.accepted = asyncio.Event()
        self._last: Accepted | Progress | None = None

    def note(self, event: Accepted | Progress) -> None:
        self._last = event
        self.accepted.set()

    @property
    def text(self) -> str:
        match self._last:
            case Progress(waiting=0, computed=computed, prompt_tokens=tokens):
                return f"{computed} of {tokens} prompt tokens are read"
            case Accepted(waiting=waiting) | Progress(waiting=waiting) if waiting:
                return f"waiting behind {waiting} others" if waiting > 1 else "waiting behind another"
        return "waiting"


def comment(waitings: Sequence[Waiting]) -> bytes:
    return b": " + "; ".join(waiting.text for waiting in waitings).encode() + b"\n\n"


async def until_decided(beginning: asyncio.Future[Any], waitings: Sequence[Waiting]) -> None:
    """Until `beginning` is over, or all have been accepted and it still takes its time."""
    accepted = asyncio.ensure_future(_all_accepted(waitings))
    try:
        await asyncio.wait((beginning, accepted), return_when=asyncio.FIRST_COMPLETED)
        if not beginning.done():
            await asyncio.wait((beginning,), timeout=EARLY_SECONDS)
    finally:
        accepted.cancel()


async def _all_accepted(waitings: Sequence[Waiting]) -> None:
    for waiting in waitings:
        await waiting.accepted.wait()
