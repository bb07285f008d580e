"""A table whose rows are told anew, again and again, and which repaints only what is other than before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.cells import cell_len
from rich.text import Text
from textual.content import Content
from textual.style import Style
from textual.widgets import DataTable

Cell = str | Content


class LiveTable(DataTable[Text]):
    """Rows have keys of their own, so the cursor stays on its row when others come and go."""

    def __init__(self, columns: Sequence[str], *, id: str | None = None) -> None:
        super().__init__(id=id, cursor_type="row", zebra_stripes=False, header_height=1)
        self._labels = tuple(columns)
        self._shown: dict[str, tuple[Cell, ...]] = {}

    def on_mount(self) -> None:
        for number, label in enumerate(self._labels):
            self.add_column(label, key=str(number))
        self.watch(self.app, "theme", self._repaint, init=False)

    def show(self, rows: Mapping[str, Sequence[Cell]]) -> None:
        """These rows, in this order."""
        told = {key: tuple(cells) for key, cells in rows.items()}
        if list(told) != list(self._shown):
            self._rebuild(told)
        else:
            for key, cells in told.items():
                for number, (cell, before) in enumerate(zip(cells, self._shown[key], strict=True)):
                    if cell != before:
                        self.update_cell(key, str(number), self._text(cell), update_width=True)
        self._shown = told

    @property
    def chosen(self) -> str | None:
        """The key of the row under the cursor."""
        keys = list(self._shown)
        return keys[self.cursor_row] if 0 <= self.cursor_row < len(keys) else None

    def choose(self, key: str) -> None:
        """Put the cursor on that row, if it is there."""
        if key in self._shown:
            self.move_cursor(row=list(self._shown).index(key))

    def _rebuild(self, rows: dict[str, tuple[Cell, ...]]) -> None:
        chosen = self.chosen
        with self.prevent(DataTable.RowHighlighted):
            self.clear()
            for column in self.columns.values():  # they would stay as wide as they ever were
                column.content_width = cell_len(column.label.plain)
            for key, cells in rows.items():
                self.add_row(*map(self._text, cells), key=key)
        self._shown = rows
        if chosen is not None:
            self.choose(chosen)

    def _repaint(self) -> None:
        """Colours are those of the theme."""
        self._rebuild(self._shown)

    def _text(self, cell: Cell) -> Text:
        """What the table can draw and measure: it knows no theme, and would take brackets for markup."""
        if isinstance(cell, str):
            return Text(cell, no_wrap=True)
        text = Text(cell.plain, no_wrap=True)
        for span in cell.spans:
            style = span.style
            if isinstance(style, str):
                style = Style.parse(style, self.app.theme_variables)
            text.stylize(style.rich_style, span.start, span.end)
        return text
