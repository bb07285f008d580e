"""The terminal UI's start and its use of the processor, in a pseudo-terminal, against a server that runs.

    python -m tests.bench.terminal_ui [--url http://127.0.0.1:8080] [--starts 10] [--seconds 60]

Without `--url` it starts a server of its own, with the pack tiny.

Start: from the process's begin to the first screen, by the bytes it writes. Use: the UI's own processor time
over `--seconds` of 20 updates a second: the server's status, of which most of the first screen is made, is
asked for 20 times a second in place of once.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import pty
import select
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path

import psutil

from appliance import paths
from tests.serving import CHAT, EMBED, Served
from tui.choices import Choices

SIZE = (40, 120)
WORD = b"Overview"  # the first screen's bar
UPDATES_A_SECOND = 20
FASTER = (
    "import tui.feeds as feeds;"
    f"feeds.FEEDS['status'] = feeds.FEEDS['status']._replace(seconds={1 / UPDATES_A_SECOND});"
)


def started(command: list[str], url: str, home: str) -> tuple[subprocess.Popen[bytes], int, float]:
    """The process, its terminal, and the seconds until its first screen."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", *SIZE, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "LANG": "C.UTF-8", "HEARTH_URL": url}
    environment["HEARTH_HOME"] = home
    began = time.perf_counter()
    process = subprocess.Popen(
        command, stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True
    )
    os.close(slave)
    seen = b""
    while WORD not in seen:
        if not select.select([master], [], [], 30)[0]:
            raise SystemExit(f"no first screen within 30 s: {seen[-300:]!r}")
        seen += os.read(master, 1 << 16)
    return process, master, time.perf_counter() - began


def drain(master: int, seconds: float) -> int:
    """Reads what is drawn for so long; how many bytes."""
    ends_at, count = time.monotonic() + seconds, 0
    while (left := ends_at - time.monotonic()) > 0:
        if select.select([master], [], [], left)[0]:
            try:
                count += len(os.read(master, 1 << 16))
            except OSError:  # the program has left its terminal
                break
    return count


def ended(process: subprocess.Popen[bytes], master: int) -> None:
    os.write(master, b"\x11")  # Ctrl-Q
    drain(master, 1.0)
    if process.poll() is None:
        process.send_signal(signal.SIGKILL)
    process.wait()
    os.close(master)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url")
    parser.add_argument("--starts", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=60)
    asked = parser.parse_args()
    if asked.url:
        measure(asked.url, asked.starts, asked.seconds)
        return
    with tempfile.TemporaryDirectory() as home:
        served = Served(Path(home) / "home", (CHAT, EMBED))
        try:
            served.wait_ready()
            measure(served.url, asked.starts, asked.seconds)
        finally:
            served.end()


def measure(url: str, count: int, duration: float) -> None:
    with tempfile.TemporaryDirectory() as home:
        Choices(Path(home) / "tui.json").keep_set_up(url)  # the first screen, not the setup
        measure_in(home, url, count, duration)


def measure_in(home: str, url: str, count: int, duration: float) -> None:
    command = [*paths.self_command(), "tui"]
    starts = []
    for _ in range(count + 1):
        process, master, seconds = started(command, url, home)
        starts.append(seconds)
        drain(master, 0.5)
        ended(process, master)
    run = "import sys; sys.argv = ['hearth', 'tui']; from appliance.__main__ import main; sys.exit(main())"
    program = FASTER + run
    process, master, _ = started([sys.executable, "-P", "-c", program], url, home)
    drain(master, 3.0)
    watched = psutil.Process(process.pid)
    before, began = watched.cpu_times(), time.monotonic()
    drawn = drain(master, duration)
    after, took = watched.cpu_times(), time.monotonic() - began
    used = (after.user + after.system) - (before.user + before.system)
    memory = watched.memory_info().rss
    ended(process, master)
    figures = {
        "first_paint_s": {
            "median": statistics.median(starts[1:]),
            "most": max(starts[1:]),
            "cold": starts[0],
        },
        "updates_per_second": UPDATES_A_SECOND,
        "share_of_a_core": used / took,
        "drawn_bytes_per_second": drawn / took,
        "memory_rss": memory,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
