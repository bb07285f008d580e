"""Every screen as it should look, at 80x24 and 120x40: compared with the SVG kept in `snapshots`.

`SNAPSHOTS=write` keeps what is shown now; look at it before it is committed.
"""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from textual.widgets import Footer, Input, TextArea

from tests.tui import recorded, recorded_operations
from tests.tui.operating import NARROW, PATIENCE, WIDE, Operator, operated
from tui import clock
from tui.app import HearthApp
from tui.choices import Choices
from tui.history import Sample

KEPT = Path(__file__).parent / "snapshots"
SAME_LOOKS = 3
LOOK_SECONDS = 0.1
WRITES = os.environ.get("SNAPSHOTS") == "write"

# scene → (keys from the overview on, what is seen when it is complete)
SCENES: dict[str, tuple[list[str], str]] = {
    "overview": ([], "74.2"),
    "overview-plots": (["p"], "74.2"),
    "models": (["2"], "loading 42%"),
    "models-load": (["2", "l"], "free for models"),
    "chat": (["3", *"hello", "enter"], "apt-file"),
    "help": (["2", "question_mark"], "Everywhere"),
}
# The same on what `recorded_operations` answers; `sees:WORDS` waits for words, `dialog` for a question.
OPERATIONS: dict[str, tuple[list[str], str]] = {
    "knowledge": (["4", "sees:handbook"], "scan.pdf"),
    "knowledge-passages": (["4", "sees:handbook", "slash", *"walked", "enter"], "packages.md · page 3"),
    "knowledge-document": (
        ["4", "sees:handbook", "slash", *"walked", "enter", "sees:[2]", "enter", "dialog"],
        "21.5 kilograms of rock",
    ),
    "routing": (["5", "sees:gpt-5"], "gpt-5"),
    "routing-decision": (["5", "sees:gpt-5", "w", "dialog", "ctrl+s"], "keeps failing"),
    "access": (["6", "sees:hearth_cp5", "down"], "60 requests a minute"),
    "access-new": (["6", "sees:hearth_cp5", "n", "dialog"], "A new key"),
    "audit": (["7", "sees:429", "down", "down", "down"], "kept-local"),
    "audit-verified": (["7", "sees:429", "v", "dialog"], "Nobody has changed it."),
    "settings": (["8", "sees:generator.temp", "down", "down", "down"], "a number, 0 to 2"),
    "settings-changes": (
        [
            *["8", "sees:generator.temp", "down", "down", "down", "e", "dialog", "ctrl+u", *"0.5", "enter"],
            *["sees:● 0.5", "a", "dialog"],
        ],
        "+ 0.5",
    ),
    "doctor": (["9", "sees:qwen2.5-7b"], "hearth-20260920.zip"),
}
# The same on a server that nobody has set up yet.
NEW = {
    "setup-models": (["sees:Welcome"], "Enough to chat"),
    "setup-address": (["sees:Welcome", "n"], "OPENAI_BASE_URL"),
    "setup-key": (["sees:Welcome", "n", "n"], "There is none yet"),
}
DOORS = {
    **dict.fromkeys(SCENES, recorded.door),
    **dict.fromkeys(OPERATIONS, recorded_operations.door),
    **dict.fromkeys(NEW, recorded_operations.new_door),
}
WELCOME = {"en": "sees:Welcome", "zh": "sees:欢迎"}
TONGUES = {"en": "hearth-dark", "zh": "hearth-light"}


def series() -> list[Sample]:
    """Five lively minutes."""
    return [
        Sample(
            at=recorded.NOW - 300 + second,
            tokens_per_second=60 + 30 * math.sin(second / 23) + 10 * math.sin(second / 5),
            first_token_p50=0.08 + 0.02 * math.sin(second / 31),
            first_token_p99=0.3 + 0.12 * math.sin(second / 17),
            running=round(3 + 3 * math.sin(second / 40)),
            waiting=max(0, round(2 * math.sin(second / 25))),
            memory=(2 << 30) + second * (1 << 20),
        )
        for second in range(300)
    ]


def plain(svg: str) -> str:
    """The words of a picture, row by row, for a reader of a failed comparison."""
    rows: dict[str, list[str]] = {}
    for row, text in re.findall(r'<text[^>]* y="([\d.]+)"[^>]*>(.*?)</text>', svg):
        rows.setdefault(row, []).append(text.replace("&#160;", " "))
    return "\n".join("".join(row) for row in rows.values())


async def settle(operator: Operator, look: Callable[[], str]) -> None:
    """Until looks are the same and the last line has its keys: nothing is drawn anew under a dialog."""
    last, same = look(), 0
    ends_at = time.monotonic() + PATIENCE
    while same < SAME_LOOKS or any(not footer.children for footer in operator.app.screen.query(Footer)):
        assert time.monotonic() < ends_at, f"the screen does not settle\n{operator.text}"
        await operator.pilot.pause(LOOK_SECONDS)
        now = look()
        last, same = now, same + 1 if now == last else 0


async def act(operator: Operator, key: str) -> None:
    if key.startswith("sees:"):
        await operator.sees(key.removeprefix("sees:"))
        await settle(operator, lambda: operator.text)
    elif key == "dialog":
        await operator.until(lambda: len(operator.app.screen_stack) > 1, "a question")
        await settle(operator, lambda: operator.text)
    else:
        await operator.press(key)


async def picture(scene: str, size: tuple[int, int], tongue: str) -> str:
    keys, seen = (SCENES | OPERATIONS | NEW)[scene]
    choices = Choices(None, language=tongue, theme=TONGUES[tongue], offers_setup=scene in NEW)
    app = HearthApp(DOORS[scene], choices)
    for sample in series():
        app.history.add(sample)
    async with app.run_test(size=size) as pilot:
        operator = Operator(app, pilot)
        await operator.sees(recorded.URL)
        for key in keys:
            await act(operator, WELCOME[tongue] if key == "sees:Welcome" else key)
        if tongue == "en":
            await operator.until(lambda: any(word in operator.text for word in seen.split("|")), seen)
        for field in (*app.screen.query(Input), *app.screen.query(TextArea)):
            field.cursor_blink = False
        await operator.until(lambda: not app.animator._animations)
        await settle(operator, lambda: app.export_screenshot(title="Hearth"))
        return app.export_screenshot(title="Hearth")


@pytest.mark.parametrize("tongue", TONGUES)
@pytest.mark.parametrize("size", [NARROW, WIDE], ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("scene", DOORS)
def test_a_screen_looks_as_it_should(
    scene: str, size: tuple[int, int], tongue: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    monkeypatch.setattr(clock, "now", lambda: recorded.NOW)
    monkeypatch.setattr(clock, "ticks", lambda: 0.0)
    kept = KEPT / f"{scene}-{size[0]}x{size[1]}-{tongue}.svg"
    if tongue == "zh" and size == WIDE:
        pytest.skip("one size is enough for the second language")
    shown = operated(picture)(scene, size, tongue)
    if WRITES:
        KEPT.mkdir(exist_ok=True)
        kept.write_text(shown, "utf-8")
        return
    before = kept.read_text("utf-8")
    if shown != before:
        (tmp_path / kept.name).write_text(shown, "utf-8")
        assert plain(shown) == plain(before), f"compare {tmp_path / kept.name} with {kept}"
        raise AssertionError(f"the words are the same, colours or styles are not: {tmp_path / kept.name}")
