"""A measured figure beside what it is held against, and the table of many.

Nothing here judges: a goal is printed beside its ratio, and whether the machine was quiet is the reader's
to know.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Figure:
    """`measured` over `reference` should be at least `goal`, or at most where `at_most` says so.

    Without a goal the ratio is information only.
    """

    model: str
    row: str
    what: str
    unit: str
    measured: float
    reference: float
    against: str
    goal: float | None = None
    at_most: bool = False

    @property
    def ratio(self) -> float:
        return self.measured / self.reference

    @property
    def is_met(self) -> bool:
        return self.goal is None or (self.ratio <= self.goal if self.at_most else self.ratio >= self.goal)

    def record(self) -> dict[str, Any]:
        return asdict(self) | {"ratio": round(self.ratio, 4), "is_met": self.is_met}

    def cells(self) -> tuple[str, ...]:
        sign = "≤" if self.at_most else "≥"
        goal = "" if self.goal is None else f"{sign} {self.goal:g}"
        verdict = "" if self.is_met else "missed"
        measured, reference = f"{self.measured:.4g} {self.unit}", f"{self.reference:.4g}"
        return (
            self.row,
            self.what,
            measured,
            f"{self.against} {reference}",
            f"{self.ratio:.3f}",
            goal,
            verdict,
        )


def table(figures: Sequence[Figure]) -> str:
    """The figures as a Markdown table, models apart."""
    lines = []
    for model in dict.fromkeys(figure.model for figure in figures):
        rows = [("row", "figure", "Hearth", "against", "ratio", "goal", "")]
        rows += [figure.cells() for figure in figures if figure.model == model]
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        texts = [
            " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows
        ]
        texts.insert(1, " | ".join("-" * width for width in widths))
        lines += [f"\n{model}\n", *(f"| {text} |" for text in texts)]
    return "\n".join(lines)


def median(values: Iterable[float]) -> float:
    return statistics.median(values)
