"""Numbers, sizes and times as short text, and text in so many cells. Pure."""

from __future__ import annotations

from rich.cells import cell_len, set_cell_size

KIB = 1024
MIB = KIB * KIB
GIB = KIB * MIB


def size(count: int | None) -> str:
    """Bytes, with two or three figures: 512 B, 34 KiB, 1.2 GiB. None: a dash."""
    if count is None:
        return "–"
    value, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < KIB:
            break
        value, unit = value / KIB, larger
    return f"{value:.1f} {unit}" if value < 10 and unit not in ("B", "KiB") else f"{value:,.0f} {unit}"


def share(part: int, whole: int) -> str:
    """So much of so much, in the unit of the whole: 0.6 of 15 GiB."""
    number, unit = size(whole).split()
    divisor = {"B": 1, "KiB": KIB, "MiB": MIB, "GiB": GIB, "TiB": KIB * GIB}[unit]
    return f"{part / divisor:.1f} / {number} {unit}"


def seconds(value: float | None) -> str:
    """A stretch of time: 85 ms, 1.4 s, 12 s, 3 min, 5 h, 2 d. None: a dash."""
    if value is None:
        return "–"
    if value < 1:
        return f"{value * 1000:.0f} ms"
    if value < 10:
        return f"{value:.1f} s"
    for limit, divisor, unit in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if value < limit:
            return f"{value / divisor:.0f} {unit}"
    return f"{value / 86_400:.0f} d"


def rate(value: float | None) -> str:
    """Something per second, with as many figures as mean something. None: a dash."""
    if value is None:
        return "–"
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def count(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


def percent(share: float) -> str:
    return f"{share:.0%}"


def fit(text: str, cells: int) -> str:
    """Exactly so many cells, however wide its characters are; what is cut off leaves an ellipsis."""
    if cell_len(text) <= cells:
        return set_cell_size(text, cells)
    return set_cell_size(text, max(0, cells - 1)) + "…" if cells > 0 else ""


def shorten(text: str, cells: int) -> str:
    """At most so many cells."""
    return text if cell_len(text) <= cells else fit(text, cells)
