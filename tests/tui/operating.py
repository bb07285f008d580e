"""An operator of the UI: presses keys, clicks, and waits until the screen shows what it should."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from textual.pilot import Pilot

from tui.app import HearthApp
from tui.choices import Choices
from tui.start import door

Given = ParamSpec("Given")
Value = TypeVar("Value")

PATIENCE = 60.0
NARROW, WIDE = (80, 24), (120, 40)


class Operator:
    """`text` is what the terminal shows, row by row."""

    def __init__(self, app: HearthApp, pilot: Pilot[None]) -> None:
        self.app = app
        self.pilot = pilot

    @property
    def text(self) -> str:
        strips = self.app.screen._compositor.render_strips()
        return "\n".join("".join(segment.text for segment in strip) for strip in strips)

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)

    async def type(self, words: str) -> None:
        await self.pilot.press(*("space" if letter == " " else letter for letter in words))

    async def sees(self, *words: str, seconds: float = PATIENCE) -> None:
        """Waits until all of `words` are on the screen."""
        await self.until(lambda: all(each in self.text for each in words), words, seconds)

    async def sees_no(self, words: str, seconds: float = PATIENCE) -> None:
        await self.until(lambda: words not in self.text, words, seconds)

    async def until(self, holds: Callable[[], object], what: object = "", seconds: float = PATIENCE) -> None:
        ends_at = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < ends_at, f"not within {seconds} s: {what}\n{self.text}"
            await self.pilot.pause(0.02)


@asynccontextmanager
async def operating(
    url: str,
    size: tuple[int, int] = NARROW,
    key: str | None = None,
    kept: Path | None = None,
    chats: Path | None = None,
    **choices: Any,
) -> AsyncIterator[Operator]:
    """The UI on the server at `url`, in a terminal of that size; what is chosen is `kept` in a file, and
    conversations in the directory `chats`.
    """
    app = HearthApp(partial(door, url, key, None), Choices(kept, **choices), chats)
    async with app.run_test(size=size, notifications=True) as pilot:
        yield Operator(app, pilot)


def operated(test: Callable[Given, Coroutine[Any, Any, Value]]) -> Callable[Given, Value]:
    """A test that awaits."""

    @functools.wraps(test)
    def run(*args: Given.args, **kwargs: Given.kwargs) -> Value:
        return asyncio.run(test(*args, **kwargs))

    return run
