"""`make bench`: every benchmark, or those named, one after the other, each in a process of its own.

A benchmark prints its table and, as its last line, its figures as JSON. Nothing here judges a figure: the
machines are noisy, and goals are for readers.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
MOST_SECONDS = 4 * 3600


def names() -> list[str]:
    """Every benchmark beside this file: a module, or a package with a `__main__`."""
    modules = {path.stem for path in HERE.glob("*.py") if not path.stem.startswith("_")}
    return sorted(modules | {path.parent.name for path in HERE.glob("*/__main__.py")})


def main(argv: Sequence[str]) -> int:
    """Runs the benchmarks in `argv`, or all. Returns 1 when one failed, 2 for an unknown name."""
    wanted = list(argv) or names()
    if unknown := [name for name in wanted if name not in names()]:
        print(f"there is no benchmark {unknown[0]!r}; there are: {', '.join(names())}", file=sys.stderr)
        return 2
    failed = []
    for name in wanted:
        print(f"\n== {name}", flush=True)
        command = [sys.executable, "-m", f"tests.bench.{name}"]
        if subprocess.run(command, timeout=MOST_SECONDS, check=False).returncode != 0:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
