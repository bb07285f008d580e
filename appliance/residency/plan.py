"""Which models must leave memory so that another fits: pure arithmetic, no clock, no process.

Only models that nobody uses and nobody pinned may leave, the longest unused first. Bytes are estimates made
before loading; see `orders`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Resident:
    """A model that holds memory, or is promised it. `last_used` orders residents; its unit does not matter.

    `busy`: requests run on it or wait for it. `leaving`: it is being unloaded; its memory comes back anyway.
    """

    name: str
    bytes: int
    last_used: float = 0.0
    pinned: bool = False
    busy: bool = False
    leaving: bool = False


@dataclass(frozen=True)
class Fits:
    """There is room once `evictions` and those that are leaving are gone."""

    evictions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Waits:
    """There will be room when the requests on the models `busy` have ended."""

    busy: tuple[str, ...]


@dataclass(frozen=True)
class Refusal:
    """There is no room, and none will come by itself: `pinned` models hold `pinned_bytes` of the budget."""

    needed: int
    budget: int
    pinned: tuple[str, ...] = ()
    pinned_bytes: int = 0


def plan(budget: int, residents: Iterable[Resident], wanted: int) -> Fits | Waits | Refusal:
    """What must happen before a further model of `wanted` bytes may be loaded within `budget`."""
    staying = [resident for resident in residents if not resident.leaving]
    missing = wanted + sum(resident.bytes for resident in staying) - budget
    if missing <= 0:
        return Fits()
    pinned = [resident for resident in staying if resident.pinned]
    pinned_bytes = sum(resident.bytes for resident in pinned)
    if wanted + pinned_bytes > budget:
        return Refusal(wanted, budget, tuple(resident.name for resident in pinned), pinned_bytes)
    free = sorted((r for r in staying if not r.pinned), key=lambda resident: resident.last_used)
    idle = [resident for resident in free if not resident.busy]
    if sum(resident.bytes for resident in idle) >= missing:
        return Fits(_fewest(idle, missing))
    busy = [resident for resident in free if resident.busy]
    return Waits(_fewest(busy, missing - sum(resident.bytes for resident in idle)))


def _fewest(ordered: list[Resident], missing: int) -> tuple[str, ...]:
    """Of `ordered`, longest unused first, those that free `missing` bytes and none that need not go."""
    chosen: list[Resident] = []
    for resident in ordered:
        if missing <= 0:
            break
        chosen.append(resident)
        missing -= resident.bytes
    for resident in reversed(chosen):  # a large one may have made smaller ones needless
        if missing + resident.bytes <= 0:
            chosen.remove(resident)
            missing += resident.bytes
    return tuple(resident.name for resident in chosen)
