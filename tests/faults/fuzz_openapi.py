"""Requests made from /openapi.json by schemathesis, against servers of its own. `make clients` installs it.

    .venv-clients/bin/python -m tests.faults.fuzz_openapi [--examples N] [--seed N]

Twice: to a server without keys, and to one with a key that the requests show. Counts what must not be:
answers of 5xx that are no refusal by design (501 for what is not served; 503, 504 and 507 say what is full or
too slow), and connections that end without an answer. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.serving import CHAT, EMBED, RERANK, Served

ROOT = Path(__file__).parents[2]
PROGRAM = [str(ROOT / ".venv" / "bin" / "python"), "-m", "appliance"]
SCHEMATHESIS = str(ROOT / ".venv-clients" / "bin" / "schemathesis")
# Ends the server's work by design, or waits as long as it is asked to.
LEFT_OUT = r"/admin/v1/(config|audit|models|requests|logs|events|backups|keys|packs).*"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=20, help="requests per path and phase")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as directory:
        for name in ("without a key", "with a key"):
            found[name] = fuzz(Path(directory) / name.replace(" ", "-"), name == "with a key", options)
    print(json.dumps({"examples": options.examples, "seed": options.seed, "found": found}))
    return int(any(each["unique_5xx"] for each in found.values()))


def fuzz(home: Path, has_key: bool, options: argparse.Namespace) -> dict[str, Any]:
    home.mkdir(parents=True)
    headers = ["-H", f"Authorization: Bearer {_make_key(home)}"] if has_key else []
    served = Served(home, (CHAT, EMBED, RERANK), ("generator.context_length=512",), program=PROGRAM)
    try:
        served.wait_until(lambda: served.http.get("/readyz").status_code == 200, 300)
        report = home / "events.ndjson"
        command = [
            SCHEMATHESIS, "run", f"{served.url}/openapi.json", "--checks", "not_a_server_error",
            "--phases", "examples,coverage,fuzzing", "--max-examples", str(options.examples),
            "--seed", str(options.seed), "--exclude-path-regex", LEFT_OUT, "--request-timeout", "30",
            "--report", "ndjson", "--report-ndjson-path", str(report), "--continue-on-failure", *headers,
        ]  # fmt: skip
        hooks = {"SCHEMATHESIS_HOOKS": "tests.faults.fuzz_hooks", "PYTHONPATH": str(ROOT)}
        subprocess.run(
            command, cwd=home, check=False, timeout=3600, stdout=sys.stderr, env=os.environ | hooks
        )
        assert served.process.poll() is None, f"the server has ended:\n{served.log[-2000:]}"
        return count(report)
    finally:
        served.end()


def _make_key(home: Path) -> str:
    """An administrator's, so that every path is reached."""
    made = subprocess.run(
        [*PROGRAM, "keys", "create", "fuzz", "--role", "admin"],
        env={"HEARTH_HOME": str(home), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    return re.findall(r"\S{24,}", made.stdout)[-1]


def count(report: Path) -> dict[str, Any]:
    """Requests, how many of them were answered with what they asked for, and each path and code that answered
    5xx without being a refusal by design."""
    requests, answered, bad = 0, 0, set()
    for line in report.read_text("utf-8").splitlines():
        event = json.loads(line)
        for recorder in _values(event, "interactions"):
            for interaction in recorder.values():
                requests += 1
                response = interaction.get("response")
                status = response["status_code"] if response else 0
                answered += 200 <= status < 300
                if (response is None or status >= 500) and status not in (501, 503, 504, 507):
                    request = interaction["request"]
                    path = re.sub(r"^https?://[^/]+", "", request["uri"]).split("?")[0]
                    bad.add((request["method"], path[:80], status))
    return {"requests": requests, "answered": answered, "unique_5xx": sorted(bad)}


def _values(value: Any, name: str) -> list[Any]:
    """Whatever stands under `name`, at any depth."""
    if isinstance(value, dict):
        here = [value[name]] if isinstance(value.get(name), dict) else []
        return here + [found for each in value.values() for found in _values(each, name)]
    return [found for each in value for found in _values(each, name)] if isinstance(value, list) else []


if __name__ == "__main__":
    sys.exit(main())
