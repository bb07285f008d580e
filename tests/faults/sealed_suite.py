"""The tests themselves without a network, traced: what they connect to, and what files they touch.

    python -m tests.faults.sealed_suite [PYTEST ARGUMENTS]

Enters a network namespace in which there is loopback only, and runs pytest there under strace, with every
process that it starts. The last line is JSON: `non_loopback` must be 0, and `files_elsewhere`: files made,
changed or removed outside the temporary directory, the home of the models and the tree's own caches.
`to_nobody` counts the calls that tests make on purpose to addresses that RFC 5737 keeps for documents, to see
them refused. Exits with 77 where strace or user namespaces are missing.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.faults.offline import (
    MISSING,
    bring_up_loopback,
    is_missing,
    read_files,
    read_trace,
    strace,
    without_network,
)
from tests.serving import store_directory

TRACE_THEMSELVES = (  # which is not possible twice
    "tests/security/test_egress.py::test_no_connect_reaches_the_kernel",
    "tests/faults/test_routing_server.py::test_offline_nothing_leaves",
)
ROOT = Path(__file__).parents[2]
OWN_CACHES = (".hypothesis", ".pytest_cache", ".work", "build/__pycache__")
NOBODYS = ("192.0.2.", "198.51.100.", "203.0.113.", "2001:db8:")  # RFC 5737, RFC 3849


def main() -> int:
    arguments = sys.argv[1:]
    if arguments[:1] == ["--inside"]:
        return inside(arguments[1:])
    return MISSING if is_missing() else without_network("tests.faults.sealed_suite", "--inside", *arguments)


def inside(arguments: list[str]) -> int:
    bring_up_loopback()
    with tempfile.TemporaryDirectory() as directory:
        trace = Path(directory) / "trace"
        left_out = [f"--deselect={name}" for name in TRACE_THEMSELVES]
        pytest = [sys.executable, "-m", "pytest", *left_out, *arguments]
        status = subprocess.run([*strace(trace), *pytest], cwd=ROOT, check=False).returncode
        allowed = (
            tempfile.gettempdir(),
            str(store_directory().parent),
            *(str(ROOT / name) for name in OWN_CACHES),
        )
        figures = {"pytest": status} | read_trace(trace, NOBODYS) | read_files(trace, allowed)
    print(json.dumps(figures))
    return 1 if status or figures["non_loopback"] or figures["files_elsewhere"] else 0


if __name__ == "__main__":
    sys.exit(main())
