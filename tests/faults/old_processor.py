"""The executable on a processor without AVX: its self-test under qemu-user, every process of it emulated.

Run from the repository's root, with qemu-user and a C compiler installed; it takes minutes:

    python -m tests.faults.old_processor [EXECUTABLE] [CPU]

The launcher is tried too, on CPU and on a processor that it must refuse. Two checks cannot hold there and
are left out: qemu-user knows no seccomp filters, and under qemu-user 7.2 a program with uvloop is ended by
SIGSEGV when a child of it ends, whatever the CPU (asyncio's own loop is not), as the workers do when the
server stops. So does the extractor when it has been idle for a minute: on a slow machine the self-test may
be cut by that, and is tried up to ATTEMPTS times; every attempt is told, and every check must hold in one
of them. The last line is JSON: `failed` must be empty. Exits with 77 where qemu is missing.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
EXECUTABLE = HERE.parents[1] / "dist" / "hearth"
CPU, TOO_OLD = "Nehalem", "core2duo"
MISSING = 77
MOST_SECONDS = 1800
ATTEMPTS = 6
LEFT_OUT = ("network socket", "the server stops")


def main() -> int:
    words = sys.argv[1:]
    executable = Path(words[0] if words else EXECUTABLE).resolve()
    cpu = words[1] if len(words) > 1 else CPU
    qemu = shutil.which("qemu-x86_64")
    if qemu is None:
        print("qemu-x86_64 is not installed", file=sys.stderr)
        return MISSING
    with tempfile.TemporaryDirectory() as directory:
        return rehearse(executable, cpu, qemu, Path(directory))


def rehearse(executable: Path, cpu: str, qemu: str, directory: Path) -> int:
    environment = {"PATH": os.defpath, "HEARTH_HOME": str(directory / "home")}
    refused = subprocess.run(
        [qemu, "-cpu", TOO_OLD, executable, "version"], env=environment, capture_output=True, text=True
    )
    started = subprocess.run(
        [qemu, "-cpu", cpu, executable, "version"], env=environment, capture_output=True, text=True
    )
    failed = []
    if refused.returncode != 1 or "SSE4.2" not in refused.stderr:
        failed.append(f"the launcher on {TOO_OLD}: status {refused.returncode}, {refused.stderr.strip()}")
    if started.returncode:
        failed.append(f"the launcher on {cpu}: status {started.returncode}, {started.stderr.strip()}")
    (program,) = (directory / "home/cache/program").glob("program-*")
    shim = directory / "shim.so"
    compile_shim = ["cc", "-shared", "-fPIC", "-O1", "-o", shim, HERE / "old_processor.c", "-ldl"]
    subprocess.run(compile_shim, check=True)
    environment |= {"HEARTH_BUNDLE": str(executable), "REHEARSED_QEMU": qemu, "REHEARSED_CPU": cpu}
    guest = ["-E", f"LD_PRELOAD={shim}", "-E", f"LD_LIBRARY_PATH={program / '_internal'}"]
    attempts = 0
    checks: dict[str, str] = {}  # what was wrong with each the last time, empty once it has held
    while attempts < ATTEMPTS and (not checks or any(checks.values())):
        attempts += 1
        done = subprocess.run(
            [qemu, "-cpu", cpu, *guest, program / "hearth", "selftest", "--json"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=MOST_SECONDS,
        )
        for check in json.loads(done.stdout):
            name, problem = check["name"], check["problem"]
            print(f"{attempts}: {check['seconds']:8.1f} s  {name}  {problem}", flush=True)
            if not any(words in name for words in LEFT_OUT):
                checks[name] = problem if checks.get(name, problem) else ""
    failed += [name for name, problem in checks.items() if problem]
    print(json.dumps({"cpu": cpu, "attempts": attempts, "checks": len(checks), "failed": failed}))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
