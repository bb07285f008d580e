"""The screens of the one file, in a real terminal, on its own server; `make binary` has it done.

`HEARTH_TEST_PROGRAM` names the executable.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import require
from tests.serving import CHAT, EMBED, Served, own_environment
from tests.tui.terminal import Terminal

PROGRAM = os.environ.get("HEARTH_TEST_PROGRAM", "")
# what each screen shows, in their order
SCREENS = (
    ("Requests under way", CHAT),
    ("of the memory for chat models taken", EMBED),
    (CHAT, "Ask something"),
    ("There is none yet",),
    ("policy", "● well"),
    ("There is no key",),
    ("Audit log", "GET /v1/models"),
    ("generator.slots", "command line"),
    ("What the doctor finds", "one file"),
)
SIZES = ((80, 24), (120, 40))

pytestmark = [
    pytest.mark.skipif(not PROGRAM, reason="HEARTH_TEST_PROGRAM names no executable"),
    pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed"),
]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    require((CHAT, EMBED))
    home = tmp_path_factory.mktemp("one-file") / "home"
    started = Served(home, (CHAT, EMBED), program=[str(Path(PROGRAM).absolute())])
    try:
        started.wait_ready()
        yield started
    finally:
        started.end()


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_every_screen_comes_up(served: Served, tmp_path: Path, size: tuple[int, int]) -> None:
    command = [str(Path(PROGRAM).absolute()), "tui", "--url", served.url]
    with Terminal(command, tmp_path, own_environment(tmp_path / "operator"), size) as terminal:
        terminal.sees("● ready", "Models on this machine", CHAT, "in memory")
        terminal.press("s")
        for words in SCREENS:
            terminal.sees(*words)
            terminal.press("C-NPage")
        terminal.press("3")
        terminal.sees("Ask something")
        terminal.type("Say hello in one word.")
        terminal.press("Enter")
        terminal.sees("tokens/s")
        terminal.press("F1")
        terminal.sees("Everywhere", "Keep conversations")
