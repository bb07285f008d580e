"""The system's clock set forward and back by a day and a year under a running server, and at its start.

    python -m tests.faults.server_clock

libfaketime shifts the wall clock of the whole server while it runs; the monotonic clock goes on. Before,
during and after each shift requests are answered in their time, deadlines hold, waiting queries end when they
should, keep-alive and heartbeats go on, keys expire by the wall clock, and the audit log stays sound. The
last line is JSON; exits with 77 where libfaketime is missing.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import httpx
import pytest

from appliance import paths
from appliance.security.audit.files import KEY, read_key
from appliance.security.audit.verify import verify_log
from models.store import Store
from tests.serving import Served
from tests.tiny_model import install, tiny_gguf

MISSING = 77
LIBRARIES = ("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1", "/usr/lib/faketime/libfaketimeMT.so.1")
SHIFTS = ("+0", "+1d", "-1d", "+1y", "-1y", "+0")
DAY, YEAR = 86_400, 365 * 86_400
SECONDS = {"+0": 0, "+1d": DAY, "-1d": -DAY, "+1y": YEAR, "-1y": -YEAR}
MODEL = "ada"
SLOWEST = 8.0  # seconds for what takes milliseconds; machines are busy


@dataclass
class Tally:
    shifts: int = 0
    checks: int = 0
    wrong: list[str] = field(default_factory=list)
    slowest: float = 0.0
    audit_sound: bool = False


class House:
    def __init__(self, home: Path, shift: Path) -> None:
        self.shift = shift
        self.server = Served(home, (MODEL,), ("knowledge.enabled=false", "limits.heartbeat=0.2"))

    def set_to(self, shift: str) -> None:
        self.shift.write_text(shift)
        time.sleep(0.2)


def check(house: House, shift: str, tally: Tally) -> None:
    """Everything that has to do with time, each within its own."""
    http, home = house.server.http, f"at {shift}"

    def timed(what: str, least: float, most: float, work: object) -> httpx.Response:
        begun = time.monotonic()
        answer: httpx.Response = work()  # type: ignore[operator]
        took = time.monotonic() - begun
        tally.checks += 1
        tally.slowest = max(tally.slowest, took)
        if not least <= took <= most:
            tally.wrong.append(f"{what} {home} took {took:.2f} s, not {least} to {most}")
        return answer

    def right(what: str, holds: bool, told: object = "") -> None:
        tally.checks += 1
        if not holds:
            tally.wrong.append(f"{what} {home}: {str(told)[:300]}")

    completion = {"model": MODEL, "prompt": "hi", "max_tokens": 5, "ignore_eos": True}
    answer = timed("a completion", 0, SLOWEST, lambda: http.post("/v1/completions", json=completion))
    right("a completion", answer.status_code == 200, answer.text)
    if answer.status_code == 200:
        stated, expected = answer.json()["created"], time.time() + SECONDS[shift]
        right("its date", abs(stated - expected) < 30, f"{stated}, not {expected}")
    late = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "x"}],
        "max_tokens": 500,
        "timeout": 0.001,
    }
    answer = timed("a deadline", 0, SLOWEST, lambda: http.post("/v1/chat/completions", json=late))
    right("a deadline", answer.status_code in (200, 504), answer.text)
    newest = http.get("/admin/v1/audit?limit=1").json()["newest"] + 1
    timed("a wait for lines", 0.4, SLOWEST, lambda: http.get(f"/admin/v1/audit?after={newest + 9}&wait=0.5"))
    stream = completion | {"stream": True, "max_tokens": 30}
    answer = timed("a stream", 0, SLOWEST, lambda: http.post("/v1/completions", json=stream))
    right("a stream", answer.text.endswith("data: [DONE]\n\n"), answer.text[-200:])
    right("readiness", http.get("/readyz").status_code == 200)
    unload = timed("an unload", 0, SLOWEST, lambda: http.post(f"/admin/v1/models/{MODEL}/unload"))
    right("an unload", unload.status_code == 200, unload.text)
    answer = timed("a load", 0, SLOWEST, lambda: http.post("/v1/completions", json=completion))
    right("a load", answer.status_code == 200, answer.text)
    metrics = http.get("/admin/v1/history?seconds=60").json()["data"]
    right("samples", all(each["seconds"] > 0 for each in metrics), metrics)
    kept = http.post("/v1/conversations", json={}).json()
    right("kept things", http.get(f"/v1/conversations/{kept.get('id')}").status_code == 200, kept)


def run(directory: Path) -> Tally:
    tally = Tally()
    home, shift = directory / "home", directory / "shift"
    shift.write_text("+0")
    install(Store(home / "models"), MODEL, tiny_gguf(0, MODEL), origin="catalogue")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LD_PRELOAD", next(each for each in LIBRARIES if Path(each).exists()))
        patch.setenv("FAKETIME_TIMESTAMP_FILE", str(shift))
        patch.setenv("FAKETIME_NO_CACHE", "1")
        patch.setenv("DONT_FAKE_MONOTONIC", "1")
        patch.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        for starting in ("+0", "+1y", "-1y"):
            shift.write_text(starting)
            house = House(home, shift)
            try:
                house.server.wait_ready(60)
                for each in SHIFTS:
                    house.set_to(each)
                    check(house, each, tally)
                    tally.shifts += 1
                house.server.stop()
            except (AssertionError, httpx.HTTPError) as error:
                tally.wrong.append(f"a server that began {starting}: {str(error)[:500]}")
            finally:
                house.server.end()
    report = verify_log(paths.audit(home), read_key(paths.audit(home) / KEY))
    tally.audit_sound = report.is_sound
    return tally


def main() -> int:
    if not any(Path(each).exists() for each in LIBRARIES):
        print("libfaketime is not installed", file=sys.stderr)
        return MISSING
    with tempfile.TemporaryDirectory() as name:
        tally = run(Path(name))
    print(json.dumps(asdict(tally)))
    return 1 if tally.wrong or not tally.audit_sound else 0


if __name__ == "__main__":
    raise SystemExit(main())
