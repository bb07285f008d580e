"""Long steps in the terminal: a bar with time left, or plain lines where nobody watches."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from models.progress import Advance, Event, Notice

PLAIN_INTERVAL = 10.0  # seconds between lines when the output is a file or a log
VERBS = {"download": "fetching", "copy": "copying", "convert": "converting", "verify": "checking"}


class ProgressDisplay:
    """Draws `models.progress` events; a context manager."""

    def __init__(self) -> None:
        self._console = Console(file=sys.stderr)
        self._bars: dict[tuple[str, str, str], TaskID] = {}
        self._last_line = 0.0
        self._progress: Progress | None = None
        if self._console.is_terminal:
            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                DownloadColumn(),
                TransferSpeedColumn(),
                TimeRemainingColumn(),
                console=self._console,
            )

    def __enter__(self) -> ProgressDisplay:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def __call__(self, event: Event) -> None:
        if isinstance(event, Notice):
            self._console.print(f"{event.model}: {event.text}", highlight=False, markup=False)
        elif self._progress is not None:
            self._draw(self._progress, event)
        else:
            self._write_line(event)

    def _draw(self, progress: Progress, event: Advance) -> None:
        key = (event.model, event.file, event.stage)
        if key not in self._bars:
            label = f"{VERBS[event.stage]} {event.model}/{event.file}"
            self._bars[key] = progress.add_task(label, total=event.total)
        progress.update(self._bars[key], completed=event.done)

    def _write_line(self, event: Advance) -> None:
        now = time.monotonic()
        if event.done < event.total and now - self._last_line < PLAIN_INTERVAL:
            return
        self._last_line = now
        left = "" if event.eta is None or event.done >= event.total else f", {event.eta:.0f} s left"
        megabytes = f"{event.done / 1e6:,.0f} of {event.total / 1e6:,.0f} MB"
        print(f"{VERBS[event.stage]} {event.model}/{event.file}: {megabytes}{left}", file=sys.stderr)
