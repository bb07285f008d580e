"""What `embed` and `rerank` make of a request: the rows to compute."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.encoders.rows import Row


@dataclass(frozen=True)
class Work:
    """A request made ready: its rows in the request's order, and what the client must be told."""

    rows: tuple[Row, ...]
    warnings: tuple[str, ...] = ()

    @property
    def tokens(self) -> int:
        return sum(len(row) for row in self.rows)
