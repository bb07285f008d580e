"""The faults that are done to a whole server, in full counts; each prints its figures as its last line."""

from __future__ import annotations

import json
import subprocess
import sys

SCRIPTS = (
    ("server_kills", "--count", "1000"),
    ("server_overload", "--seconds", "60"),
    ("server_disconnects", "--count", "1000"),
    ("server_full_disk", "--rounds", "20"),
    ("server_clock",),
    ("server_malformed", "--count", "1000"),
    ("offline",),
    ("server_soak", "--minutes", "60"),
)


def main() -> int:
    results = {}
    for script, *options in SCRIPTS:
        done = subprocess.run(
            [sys.executable, "-m", f"tests.faults.{script}", *options],
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        last = done.stdout.splitlines()[-1:] or ["{}"]
        print(
            f"{script}: {'held' if done.returncode == 0 else f'status {done.returncode}'} {last[0]}",
            flush=True,
        )
        results[script] = {"status": done.returncode, "figures": json.loads(last[0])}
    print(json.dumps(results))
    return 1 if any(each["status"] not in (0, 77) for each in results.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
