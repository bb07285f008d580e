"""What a screen waits for: each wait has a name, a start, perhaps a share, and the task to end."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field


@dataclass(eq=False)
class Wait:
    """`share`: how far it is, 0 to 1; None where nobody knows. `task`: whom to cancel."""

    what: str
    task: asyncio.Task[object]
    began: float = field(default_factory=time.monotonic)
    share: float | None = None

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.began

    def cancel(self) -> None:
        self.task.cancel()
