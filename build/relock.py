"""Makes requirements.lock and those of dev and clients from pyproject.toml: ``make lock``.

Pins that still satisfy pyproject stay; ``make lock UPGRADE=1`` takes the newest of everything. The
resolver lives in an environment of its own under .work, so it is no dependency of the product.
No lock names where the packages come from: that is each machine's own setting.
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

from setup_layout import CLIENTS_LOCK, DEV_LOCK, ROOT, RUN_LOCK, WORK

RESOLVER = "uv==0.13.8"
TOOL_HOME = WORK / "relock"

HEADER = """\
# Made by 'make lock' from pyproject.toml ({what}). Do not edit by hand.
# Every file is named by its SHA-256; where it comes from is each machine's own pip setting.
"""


def main() -> int:
    """Write the locks; the exit status is the resolver's."""
    resolver = TOOL_HOME / "bin" / "uv"
    if not resolver.exists():
        venv.create(TOOL_HOME, with_pip=True, clear=True)
        subprocess.run([TOOL_HOME / "bin" / "pip", "install", "--quiet", RESOLVER], check=True)
    options = [
        "--generate-hashes", "--no-header", "--no-emit-index-url", "--no-emit-find-links",
        "--python-version", "3.11", "--python-platform", "linux", "--quiet",
    ]  # fmt: skip
    if os.environ.get("UPGRADE"):
        options.append("--upgrade")
    compile_lock: list[str | Path] = [resolver, "pip", "compile", *options]
    wanted: list[tuple[Path, str, list[str]]] = [
        (RUN_LOCK, "dependencies and group native", ["pyproject.toml", "--group", "native"]),
        # Constrained by the first, so that tests run on what is served.
        (DEV_LOCK, "group dev, constrained by requirements.lock", ["--group", "dev", "-c", RUN_LOCK.name]),
        # An environment of its own: these clients do not agree with what we serve with.
        (CLIENTS_LOCK, "group clients", ["--group", "clients"]),
    ]
    for lock, what, sources in wanted:
        done = subprocess.run([*compile_lock, *sources, "-o", lock.name], cwd=ROOT, stdout=subprocess.DEVNULL)
        if done.returncode != 0:
            return done.returncode
        lock.write_text(HEADER.format(what=what) + lock.read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
