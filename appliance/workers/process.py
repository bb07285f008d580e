"""Starting a worker process, and what the worker does first.

A worker is this same program with the word `worker`, a role and the number of an inherited socket. It never
outlives the gateway: the kernel kills it with its parent, and it leaves by itself when the socket closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PR_SET_PDEATHSIG = 1
OOM_SCORE = "500"  # of 1000: when memory runs out, the kernel ends a worker, not the gateway


@dataclass
class WorkerProcess:
    process: asyncio.subprocess.Process
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


async def launch(program: Sequence[str], role: str, environment: dict[str, str]) -> WorkerProcess:
    """Start a worker of `role` and connect to it. Raises OSError when the process cannot start.

    The process is the last thing made: a caller that is cancelled meanwhile leaves none behind.
    """
    ours, theirs = socket.socketpair()
    try:
        reader, writer = await asyncio.open_connection(sock=ours, limit=1 << 20)
    except BaseException:
        ours.close()
        theirs.close()
        raise
    try:
        process = await asyncio.create_subprocess_exec(
            *program,
            "worker",
            role,
            str(theirs.fileno()),
            str(os.getpid()),
            pass_fds=[theirs.fileno()],
            stdin=asyncio.subprocess.DEVNULL,
            env=environment,
        )
    except BaseException:
        writer.close()
        raise
    finally:
        theirs.close()
    return WorkerProcess(process, reader, writer)


def become_worker(descriptor: int, parent: int) -> socket.socket:
    """In the child: die with the parent, leave Ctrl-C to it, and take the inherited socket."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise SystemExit("the gateway that started this worker is gone")
    with contextlib.suppress(OSError):  # not every container has it
        Path("/proc/self/oom_score_adj").write_text(OOM_SCORE)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return socket.socket(fileno=descriptor)
