"""What the tools print becomes a share done and a time left, drawn for a terminal or for a log."""

import io

import pytest
from setup_progress import PLAIN_INTERVAL_S, Progress, duration, ninja_step, pip_bytes, seconds_left
from setup_readers import NinjaReader, PipReader


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("line", "step"),
    [
        ("  [1/140] /usr/bin/g++ -DGGML_BUILD -c x.cpp", (1, 140)),
        ("[79/79] Linking CXX shared library bin/libllama.so", (79, 79)),
        ("  -- Installing: [1/2]", None),
        ("  [3/2] impossible", None),
        ("  [0/0] nothing", None),
        ("  [a/b] words", None),
        ("  [1/2]glued", None),
        ("", None),
    ],
)
def test_ninja_step(line: str, step: tuple[int, int] | None) -> None:
    assert ninja_step(line) == step


@pytest.mark.parametrize(
    ("line", "counts"),
    [("Progress 16384 of 80000", (16384, 80000)), ("Progress 5 of 0", None), ("In Progress 1 of 2", None)],
)
def test_pip_bytes(line: str, counts: tuple[int, int] | None) -> None:
    assert pip_bytes(line) == counts


def test_time_left_is_proportional_to_what_is_left() -> None:
    assert seconds_left(0.25, 60.0) == pytest.approx(180.0)
    assert seconds_left(1.0, 60.0) == 0.0
    assert seconds_left(0.0, 60.0) is None
    assert seconds_left(0.5, 0.0) is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (59.4, "59 s"), (60, "1 min 00 s"), (185.2, "3 min 05 s"), (-1, "0 s")],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_log_gets_a_plain_line_now_and_then() -> None:
    screen, clock = io.StringIO(), Clock()
    progress = Progress(screen, "compiling", clock)
    progress.show(0.0, "step 0 of 4")
    clock.now += PLAIN_INTERVAL_S / 2
    progress.show(0.25, "step 1 of 4")
    progress.tick()
    assert screen.getvalue() == "compiling …\n"
    clock.now += PLAIN_INTERVAL_S / 2
    progress.tick()
    progress.finish()
    lines = screen.getvalue().splitlines()
    assert lines[1:] == [
        "compiling ·  25% [######..................] · 30 s left · step 1 of 4",
        "compiling · done in 10 s",
    ]
    assert "\r" not in screen.getvalue()


def test_a_terminal_gets_one_redrawn_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    screen, clock = Terminal(), Clock()
    progress = Progress(screen, "compiling", clock)
    for done in (1, 2, 3):
        clock.now += 1
        progress.show(done / 4, f"step {done} of 4, and words that no terminal of 40 columns has room for")
        progress.tick()
    assert "\n" not in screen.getvalue()
    drawn = screen.getvalue().split("\r\x1b[K")[1:]
    assert len(drawn) == 3
    assert all(len(line) < 40 for line in drawn)
    assert "75%" in drawn[-1]


def test_a_terminal_is_not_redrawn_for_every_line() -> None:
    screen, clock = Terminal(), Clock()
    progress = Progress(screen, "compiling", clock)
    clock.now += 1
    for _ in range(1000):
        progress.tick()
    assert screen.getvalue().count("\r") == 1


def test_ninja_lines_move_the_bar() -> None:
    clock = Clock()
    progress, read = Progress(io.StringIO(), "compiling", clock), NinjaReader()
    read("  -- Configuring done", progress)
    assert progress.line() == "compiling · 0 s"
    read("  [1/4] c++ a", progress)
    clock.now += 20
    read("  [2/4] c++ b", progress)
    assert progress.line().endswith("] · 20 s left · step 2 of 4")
    read("  [4/4] link", progress)
    assert progress.line() == "compiling · 20 s · packing the wheel"


def test_pip_lines_count_packages_and_bytes() -> None:
    progress, read = Progress(io.StringIO(), "packages", Clock()), PipReader(4)
    read("Collecting numpy==2.4 (from -r x.txt (line 1))", progress)
    read("Requirement already satisfied: onnxruntime==1.31 in ./.venv", progress)
    assert progress.line().endswith("] · 2 of 4: onnxruntime")
    assert " 25% [" in progress.line()
    read("Progress 5000000 of 20000000", progress)
    assert progress.line().endswith("] · 2 of 4: onnxruntime, 5 of 20 MB")
    assert " 31% [" in progress.line()
    read("Installing collected packages: numpy, onnxruntime", progress)
    assert progress.line().endswith("unpacking 4 of 4")
