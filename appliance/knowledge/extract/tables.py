"""Tables: CSV. A row is told with the names of its columns, so that it stands by itself."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator

from appliance.knowledge.extract.errors import Unreadable
from appliance.knowledge.extract.plain import decoded
from appliance.knowledge.text import Block

MOST_ROWS = 1_000_000
SNIFFED_CHARS = 16_384


def read_csv(content: bytes) -> Iterator[Block]:
    text = decoded(content)
    csv.field_size_limit(1024 * 1024)
    try:
        dialect: type[csv.Dialect] | csv.Dialect = csv.Sniffer().sniff(text[:SNIFFED_CHARS], ",;\t|")
    except csv.Error:
        dialect = csv.excel
    try:
        yield from rows(csv.reader(io.StringIO(text), dialect), 0)
    except csv.Error as error:
        raise Unreadable(f"it is no CSV: {error}") from error


def rows(found: Iterable[list[str]], page: int) -> Iterator[Block]:
    """The first row with two or more cells names the columns, if all it holds is words."""
    header: list[str] | None = None
    for number, row in enumerate(found):
        if number > MOST_ROWS:
            raise Unreadable(f"it has more than {MOST_ROWS:,} rows; split it")
        cells = [" ".join(cell.split()) for cell in row]
        filled = [cell for cell in cells if cell]
        if header is None and len(filled) >= 2:
            header = cells if not any(_is_number(cell) for cell in filled) else []
            yield Block("row", " | ".join(filled), 0, page)
        elif header:
            yield Block("row", "; ".join(_named(cells, header)), 0, page)
        else:
            yield Block("row", " | ".join(filled), 0, page)


def _named(cells: list[str], header: list[str]) -> Iterator[str]:
    for place, cell in enumerate(cells):
        if cell:
            name = header[place] if place < len(header) else ""
            yield f"{name}: {cell}" if name else cell


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", "").rstrip("%"))
    except ValueError:
        return False
    return True
