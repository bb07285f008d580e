"""Owns how the output of pip and ninja becomes progress. Knows nothing of who runs them."""

from __future__ import annotations

from setup_progress import Progress, ninja_step, pip_bytes

MEGABYTE = 1_000_000


def read_nothing(line: str, progress: Progress) -> None:
    """For tools that are done before anyone could ask how far they are."""


class PipReader:
    """Counts the packages that pip has turned to, and the bytes of the one it is fetching."""

    def __init__(self, packages: int) -> None:
        self._packages = packages
        self._turned_to = 0
        self._package = ""

    def __call__(self, line: str, progress: Progress) -> None:
        text = line.strip()
        if text.startswith(("Collecting ", "Requirement already satisfied: ")):
            self._turned_to = min(self._turned_to + 1, self._packages)
            self._package = text.removeprefix("Requirement already satisfied: ").removeprefix("Collecting ")
            self._package = self._package.split("==")[0].split()[0]
            self._show(progress, 0.0, "")
        elif text.startswith("Installing collected packages"):
            progress.show(None, f"unpacking {self._packages} of {self._packages}")
        elif (received := pip_bytes(text)) is not None and self._turned_to:
            done, total = received
            size = f", {done / MEGABYTE:.0f} of {total / MEGABYTE:.0f} MB" if total > MEGABYTE else ""
            self._show(progress, done / total, size)

    def _show(self, progress: Progress, part: float, size: str) -> None:
        note = f"{self._turned_to} of {self._packages}: {self._package}{size}"
        progress.show((self._turned_to - 1 + part) / self._packages, note)


class NinjaReader:
    """Follows ninja's ``[finished/all]``; what comes before and after it has no count."""

    def __call__(self, line: str, progress: Progress) -> None:
        step = ninja_step(line)
        if step is None:
            return
        done, total = step
        if done == total:
            progress.show(None, "packing the wheel")
        else:
            progress.show(done / total, f"step {done} of {total}")
