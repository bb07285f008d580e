"""Workbooks: each sheet a page, its rows told with the names of their columns."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path

import openpyxl

from appliance.knowledge.extract.archive import checked
from appliance.knowledge.extract.tables import rows
from appliance.knowledge.text import Block

MOST_COLUMNS = 1024


def read_xlsx(path: Path) -> Iterator[Block]:
    checked(path)
    with path.open("rb") as content:  # openpyxl judges a path by its ending, and stored files have none
        book = openpyxl.load_workbook(content, read_only=True, data_only=True, keep_links=False)
        for number, sheet in enumerate(book.worksheets, 1):
            yield Block("heading", sheet.title, 1, number)
            found = sheet.iter_rows(values_only=True, max_col=MOST_COLUMNS)
            yield from rows(([_shown(value) for value in row] for row in found), number)


def _shown(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        return value.date().isoformat()
    return str(value)
