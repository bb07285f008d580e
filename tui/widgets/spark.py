"""A line of bars, one a value: how something went lately."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content

BARS = "▁▂▃▄▅▆▇█"


def bars(values: Sequence[float | None], cells: int, top: float | None = None) -> str:
    """The last `cells` values, the newest at the right; a space where nobody knows the value.

    `top`: the value of a full bar; the largest one shown if None.
    """
    shown = list(values)[-cells:]
    known = [value for value in shown if value is not None]
    most = top if top is not None else max(known, default=0.0)
    text = "".join(" " if value is None else _bar(value, most) for value in shown)
    return text.rjust(cells)


def spark(values: Sequence[float | None], cells: int, style: str = "$primary") -> Content:
    return Content.styled(bars(values, cells), style)


def _bar(value: float, most: float) -> str:
    if value <= 0 or most <= 0:
        return BARS[0]
    return BARS[min(len(BARS) - 1, int(value / most * len(BARS)))]
