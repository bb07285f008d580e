"""How much memory this process may still take: the machine's free memory, or what its control group leaves.

A service under `MemoryMax=`, or a container with a limit, is ended by the kernel at that limit, however much
the machine has free. Format: the kernel's cgroup v2 files (Documentation/admin-guide/cgroup-v2.rst).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from pathlib import Path

import psutil

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")


def available() -> int:
    """Bytes that can be taken without anything being pushed out."""
    left = cgroup_left(OWN_CGROUP, CGROUPS)
    free = int(psutil.virtual_memory().available)
    return free if left is None else min(free, left)


def resident(pid: int) -> int:
    """Bytes of a process in memory, shared ones included; 0 for one that has ended. Cheap."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def private(pid: int) -> int:
    """Bytes in memory that are a process's own and no file's; 0 for one that has ended. Cheap."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = next((line for line in status.splitlines() if line.startswith("RssAnon:")), "RssAnon: 0")
    return int(found.split()[1]) * 1024


def give_back() -> None:
    """Return to the kernel what the C library keeps of freed memory: tens of MB after a model was loaded."""
    with contextlib.suppress(AttributeError):  # another C library than glibc
        ctypes.CDLL(None).malloc_trim(0)


def cgroup_left(own: Path, root: Path) -> int | None:
    """Bytes up to the tightest limit of the process's control groups; None where there is no limit."""
    try:
        line = own.read_text().strip().splitlines()[-1]
    except (OSError, IndexError):
        return None
    path = root / line.rpartition(":")[2].lstrip("/")
    lefts = [left for place in (path, *path.parents) if (left := _left(place)) is not None]
    return min(lefts, default=None)


def _left(place: Path) -> int | None:
    try:
        limit = (place / "memory.max").read_text().strip()
        used = int((place / "memory.current").read_text())
        stat = (place / "memory.stat").read_text()
    except (OSError, ValueError):
        return None
    if limit == "max":
        return None
    return max(0, int(limit) - used + _cache(stat))


def _cache(stat: str) -> int:
    """Of the memory in use, what is only a cache of files and goes when it is needed."""
    values = dict(line.split(" ", 1) for line in stat.splitlines() if " " in line)
    return int(values.get("inactive_file", 0))
