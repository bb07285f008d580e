"""Tools are run for real: their lines, their failures, and what a person is told of them."""

import io
import os
import sys
import time
from pathlib import Path

import pytest
from setup_command import run_tool
from setup_failure import SetupError, diagnose, report
from setup_progress import Progress


def run(code: str, *, read_line=lambda line, progress: None, screen: io.StringIO | None = None) -> str:
    log = io.StringIO()
    run_tool(
        [sys.executable, "-c", code],
        name="The tool",
        log=log,
        progress=Progress(screen or io.StringIO(), "tool"),
        read_line=read_line,
        env=os.environ,
        cwd=Path.cwd(),
    )
    return log.getvalue()


def test_every_line_reaches_the_log_and_the_reader() -> None:
    lines: list[str] = []
    log = run(
        "import sys; print('one'); print('Progress 1 of 9'); sys.stderr.write('two\\n');"
        "sys.stdout.buffer.write(b'\\xff')",
        read_line=lambda line, progress: lines.append(line),
    )
    assert sorted(lines) == ["Progress 1 of 9", "one", "two", "�"]
    assert log.splitlines()[1].startswith("$ ")
    assert sorted(log.splitlines()[2:]) == ["one", "two", "�"], "the log does without pip's byte counts"


def test_a_failed_tool_tells_its_cause_and_its_last_lines() -> None:
    screen = io.StringIO()
    with pytest.raises(SetupError) as caught:
        run(
            "import sys; print('x' * 5); print('[Errno 28] No space left on device'); sys.exit(3)",
            screen=screen,
        )
    text = report(caught.value, "/house/.work/setup.log")
    assert "The disk is full." in text
    assert "| xxxxx" in text
    assert "Full log: /house/.work/setup.log" in text
    assert "failed in" in screen.getvalue()


def test_a_missing_tool_is_a_set_up_error() -> None:
    with pytest.raises(SetupError):
        run_tool(
            ["/nowhere/to/be/found"],
            name="The tool",
            log=io.StringIO(),
            progress=Progress(io.StringIO(), "tool"),
            read_line=lambda line, progress: None,
            env={},
            cwd=Path.cwd(),
        )


def test_an_interrupted_tool_is_ended_with_all_that_it_started() -> None:
    started: list[int] = []

    def interrupt(line: str, progress: Progress) -> None:
        started.append(int(line))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(
            "import subprocess; child = subprocess.Popen(['sleep', '60']);"
            "print(child.pid, flush=True); child.wait()",
            read_line=interrupt,
        )
    deadline = time.monotonic() + 10
    while is_running(started[0]) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_running(started[0])


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("g++: fatal error: Killed signal terminated program cc1plus", "memory"),
        ("x.cpp:3:1: fatal error: Python.h: No such file or directory", "headers"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE", "not the one"),
        ("Failed to establish a new connection: [Errno -3] Temporary failure in name resolution", "reached"),
        ("NewConnectionError … \nERROR: No matching distribution found for anyio==4", "reached"),
        ("ERROR: No matching distribution found for anyio==4", "no file for this machine"),
        ("CMake Error: No CMAKE_CXX_COMPILER could be found.", "no working C++ compiler"),
        ("OSError: [Errno 13] Permission denied: '.venv'", "cannot be written"),
        ("x.cpp:10:5: error: expected ';'", "The tool failed to compile."),
        ("x.cpp:10:5: error: no\nwrite: No space left on device", "disk is full"),
        ("something else", "The tool failed."),
    ],
)
def test_the_cause_is_named_in_plain_words(output: str, words: str) -> None:
    failure = diagnose(output, "The tool")
    assert words in failure.cause
    assert failure.remedy
