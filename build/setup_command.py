"""Owns the running of one tool of the set-up: its output to the log, its progress to the screen.

Knows nothing of what the tools do. A tool that fails raises SetupError with a diagnosis.
"""

from __future__ import annotations

import os
import queue
import shlex
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from setup_failure import TAIL_LINES, SetupError, diagnose
from setup_progress import Progress, pip_bytes

# What a diagnosis may look at: a compiler's first error can be far above its last line.
_REMEMBERED_LINES = 2000
_REDRAW_S = 0.5
_STOP_S = 10.0

LineReader = Callable[[str, Progress], None]


def run_tool(
    argv: Sequence[str | Path],
    *,
    name: str,
    log: TextIO,
    progress: Progress,
    read_line: LineReader,
    env: Mapping[str, str],
    cwd: Path,
) -> None:
    """Run `argv` to its end, showing `progress` all the while.

    Every line goes to `log` and to `read_line`. Raises SetupError if the tool is missing or fails.
    """
    command = [os.fspath(word) for word in argv]
    log.write(f"\n$ {shlex.join(command)}\n")
    log.flush()
    try:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=dict(env),
            cwd=cwd,
            # A group of its own, so that stopping it stops the compilers it started too.
            start_new_session=True,
        )
    except OSError as error:
        raise SetupError(diagnose(f"[Errno {error.errno}] {error}", name), (str(error),)) from error
    remembered: deque[str] = deque(maxlen=_REMEMBERED_LINES)
    try:
        for line in _lines_with_ticks(child, progress):
            read_line(line, progress)
            if pip_bytes(line) is None:  # thousands of lines that only a progress bar can use
                log.write(line + "\n")
                remembered.append(line)
        status = child.wait()
    except BaseException:
        _stop(child)
        raise
    finally:
        log.flush()
    if status != 0:
        progress.finish("failed")
        tail = [line.rstrip() for line in remembered if line.strip()]
        raise SetupError(diagnose("\n".join(remembered), name), tuple(tail[-TAIL_LINES:]))


def _lines_with_ticks(child: subprocess.Popen[str], progress: Progress) -> Iterator[str]:
    inbox: queue.Queue[str | None] = queue.Queue(maxsize=1000)

    def read() -> None:
        assert child.stdout is not None
        with child.stdout as output:
            for line in output:
                inbox.put(line.rstrip("\n"))
        inbox.put(None)

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            line = inbox.get(timeout=_REDRAW_S)
        except queue.Empty:
            progress.tick()
            continue
        if line is None:
            return
        yield line
        progress.tick()


def _stop(child: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGTERM)
    try:
        child.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
