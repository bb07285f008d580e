"""Lines over time, drawn in braille dots or, without those, in stars.

textual-plotext would do the same through plotext's private figure class, at 3 ms a plot and without a way
to draw in ASCII; this is what the UI needs of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from textual.app import RenderResult
from textual.content import Content
from textual.widget import Widget

from tui.language import say

Points = Sequence[tuple[float, float]]

_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
_BLANK = 0x2800


@dataclass(frozen=True)
class Line:
    """A name, a style and (x, y) points with rising x."""

    name: str
    style: str
    points: Points


class Plot(Widget):
    """`unit` writes a value of the y axis. x are seconds; the right edge is `now`, the newest point."""

    def __init__(
        self, title: str, unit: Callable[[float], str], seconds: float = 300, *, id: str | None = None
    ) -> None:
        super().__init__(id=id, classes="panel plot")
        self.border_title = title
        self._unit = unit
        self._seconds = seconds
        self._lines: tuple[Line, ...] = ()

    def show(self, *lines: Line) -> None:
        if lines != self._lines:
            self._lines = lines
            self.refresh()

    def render(self) -> RenderResult:
        width, height = self.content_size
        if width < 16 or height < 3:
            return ""
        newest = max((line.points[-1][0] for line in self._lines if line.points), default=None)
        if newest is None:
            return Content.styled(say("plot.nothing_yet"), "$foreground-muted")
        most = max(value for line in self._lines for _, value in line.points) or 1.0
        top, bottom = self._unit(most), self._unit(0)
        margin = max(cell_len(top), cell_len(bottom)) + 1
        oldest = newest - self._seconds
        drawn = draw(
            [line.points for line in self._lines], width - margin, height - 1, (oldest, newest), (0.0, most)
        )
        rows = []
        for number, row in enumerate(drawn):
            label = top if number == 0 else bottom if number == len(drawn) - 1 else ""
            cells = [
                (character, self._lines[which].style) if which is not None else (character, "")
                for character, which in row
            ]
            rows.append(
                Content.assemble((label.rjust(margin - 1) + " ", "$foreground-muted"), *_joined(cells))
            )
        rows.append(self._legend(margin, width))
        return Content("\n").join(rows)

    def _legend(self, margin: int, width: int) -> Content:
        names = Content("  ").join(
            Content.styled(f"● {line.name}", line.style) for line in self._lines if line.name
        )
        ago = say("plot.ago", minutes=f"{self._seconds / 60:.0f}")
        now = say("plot.now")
        room = max(1, width - margin - cell_len(ago) - names.cell_length - cell_len(now))
        left, right = room // 2, room - room // 2
        return Content.assemble(
            " " * margin,
            (ago, "$foreground-muted"),
            " " * left,
            names,
            " " * right,
            (now, "$foreground-muted"),
        )


def draw(
    series: Sequence[Points], width: int, height: int, x: tuple[float, float], y: tuple[float, float]
) -> list[list[tuple[str, int | None]]]:
    """Rows of (character, which series is its colour); the series drawn last is on top."""
    dots = [[0] * width for _ in range(height)]
    owner: list[list[int | None]] = [[None] * width for _ in range(height)]

    def mark(across: int, down: int, which: int) -> None:
        if 0 <= across < width * 2 and 0 <= down < height * 4:
            dots[down // 4][across // 2] |= _DOTS[down % 4][across % 2]
            owner[down // 4][across // 2] = which

    for which, points in enumerate(series):
        before: tuple[int, int] | None = None
        for at, value in points:
            across = round((at - x[0]) / (x[1] - x[0]) * (width * 2 - 1))
            down = round((1 - (value - y[0]) / (y[1] - y[0])) * (height * 4 - 1))
            for each_across, each_down in _between(before or (across, down), (across, down)):
                mark(each_across, each_down, which)
            before = (across, down)
    return [
        [(chr(_BLANK + bits) if bits else " ", mine) for bits, mine in zip(*row, strict=True)]
        for row in zip(dots, owner, strict=True)
    ]


def _between(start: tuple[int, int], end: tuple[int, int]) -> list[tuple[int, int]]:
    """The dots of a straight line, `end` included."""
    steps = max(abs(end[0] - start[0]), abs(end[1] - start[1]), 1)
    return [
        (
            start[0] + round((end[0] - start[0]) * step / steps),
            start[1] + round((end[1] - start[1]) * step / steps),
        )
        for step in range(1, steps + 1)
    ]


def _joined(cells: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Neighbours of one style as one piece."""
    pieces: list[tuple[str, str]] = []
    for character, style in cells:
        if pieces and pieces[-1][1] == style:
            pieces[-1] = (pieces[-1][0] + character, style)
        else:
            pieces.append((character, style))
    return pieces
