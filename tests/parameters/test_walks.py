"""Every row that the table calls served or mapped, on the real server, by the walk registered for it."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import httpx
import pytest

from appliance.api import parameter_table
from tests.parameters.walker import WALKS, Walk, Walker

HERE = Path(__file__).parent
for module in sorted(HERE.glob("walk_*.py")):
    importlib.import_module(f"tests.parameters.{module.stem}")

SERVED = [
    (entry.path, entry.parameter)
    for entry in parameter_table.entries()
    if entry.verdict in ("served", "mapped")
]


def test_every_row_is_walked_and_no_walk_is_of_none() -> None:
    assert [row for row in SERVED if row not in WALKS] == []
    assert [row for row in WALKS if row not in SERVED] == []


def by_walk() -> list[Any]:
    """Each walk once, with the rows that it sees."""
    found: dict[Walk, list[tuple[str, str]]] = {}
    for row, walk in WALKS.items():
        found.setdefault(walk, []).append(row)
    return [pytest.param(walk, id=_name(rows)) for walk, rows in found.items()]


def _name(rows: list[tuple[str, str]]) -> str:
    return f"{rows[0][0]} {', '.join(parameter for _, parameter in rows)}"


@pytest.mark.parametrize("walk", by_walk())
def test_what_is_served_does_what_it_says(http: httpx.Client, walk: Walk) -> None:
    walk(Walker(http))
