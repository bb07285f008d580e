"""Free memory: the machine's, or what a control group leaves of it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from appliance.memory import available, cgroup_left, private


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "own").write_text("0::/outer/inner\n")
    (tmp_path / "outer" / "inner").mkdir(parents=True)
    return tmp_path


def limit(place: Path, most: str, used: int, cache: int = 0) -> None:
    (place / "memory.max").write_text(f"{most}\n")
    (place / "memory.current").write_text(f"{used}\n")
    (place / "memory.stat").write_text(f"anon {used - cache}\ninactive_file {cache}\nslab 3\n")


def test_without_a_limit_there_is_none(root: Path) -> None:
    assert cgroup_left(root / "own", root) is None
    limit(root / "outer" / "inner", "max", 500)
    assert cgroup_left(root / "own", root) is None
    assert cgroup_left(root / "nothing", root) is None


def test_the_tightest_limit_counts_and_a_cache_of_files_is_free(root: Path) -> None:
    limit(root / "outer" / "inner", "1000", 400, cache=100)
    assert cgroup_left(root / "own", root) == 700
    limit(root / "outer", "2000", 1900)
    assert cgroup_left(root / "own", root) == 100
    limit(root / "outer", "2000", 2100)
    assert cgroup_left(root / "own", root) == 0


def test_here_some_memory_is_free() -> None:
    assert 0 < available() <= psutil.virtual_memory().total


@contextlib.contextmanager
def taking(size: str) -> Iterator[subprocess.Popen[str]]:
    """A process that has so many bytes."""
    program = f"own = bytes({size}) + b'x' * {size}; own = own[{size}:]; print(); input()"
    words = [sys.executable, "-S", "-c", program]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.stdin.close()


def test_a_process_memory_of_its_own_is_counted() -> None:
    with taking("0") as little, taking("30_000_000") as much:
        assert 29_000_000 < private(much.pid) - private(little.pid) < 31_000_000
    assert private(2**22 + 1) == 0, "nobody has that number"
