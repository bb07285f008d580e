"""The system's clock set forward and back by a day and a year under a running server, and at its start.

    python -m tests.faults.server_clock

libfaketime shifts the wall clock of the whole server while it runs; the monotonic clock goes on. Before,
during and after each shift requests are answered in their time, deadlines hold, waiting queries end when they
should, keep-alive and heartbeats go on, keys and JSON Web Tokens are good and end by the wall clock, rates
count the seconds that have passed, and the audit log stays sound. The last line is JSON; exits with 77 where
libfaketime is missing.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import ClassVar

import httpx
import jwt
import pytest

from appliance import paths
from appliance.principal import Grant
from appliance.security.audit.files import KEY, read_key
from appliance.security.audit.verify import verify_log
from appliance.security.keyring import Keyring
from models.store import Store
from tests.serving import Served
from tests.tiny_model import install, tiny_gguf

MISSING = 77
LIBRARIES = ("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1", "/usr/lib/faketime/libfaketimeMT.so.1")
SHIFTS = ("+0", "+1d", "-1d", "+1y", "-1y", "+0")
DAY, YEAR = 86_400, 365 * 86_400
SECONDS = {"+0": 0, "+1d": DAY, "-1d": -DAY, "+1y": YEAR, "-1y": -YEAR}
MODEL = "ada"
RATE = 3  # requests a minute
SECRET = b"s" * 32
ISSUER = """
[[access.issuers]]
issuer = "https://id.example.org"
audience = "hearth"
algorithm = "HS256"
key_file = "{file}"
roles = {{staff = "user"}}
"""
SLOWEST = 8.0  # seconds for what takes milliseconds; machines are busy


@dataclass
class Tally:
    shifts: int = 0
    checks: int = 0
    wrong: list[str] = field(default_factory=list)
    slowest: float = 0.0
    audit_sound: bool = False


class House:
    """`boss`: an admin's key; `hour`: one that ends in an hour of the true time; `rated`: three requests a
    minute. All are made once."""

    keys: ClassVar[dict[str, str]] = {}

    def __init__(self, home: Path, shift: Path) -> None:
        self.shift = shift
        secret = home / "secret"
        home.mkdir(exist_ok=True)
        secret.write_bytes(SECRET)
        (home / "hearth.toml").write_text(ISSUER.format(file=secret))
        if not self.keys:  # before there is a server: with an issuer it lets nobody in without a credential
            ring = Keyring(paths.access(home))
            self.keys["boss"] = ring.create("boss", Grant(role="admin"))[1]
            ring.close()
        self.server = Served(home, (MODEL,), ("knowledge.enabled=false", "limits.heartbeat=0.2"))
        self.server.http.headers["authorization"] = f"Bearer {self.keys['boss']}"

    def make_keys(self) -> None:
        if "hour" not in self.keys:
            self.keys["hour"] = self.key("hour", expires_at=time.time() + 3600)
            self.keys["rated"] = self.key("rated", rates={"requests_per_minute": RATE})

    def key(self, name: str, *, expires_at: float | None = None, **grant: object) -> str:
        body = {"name": name, "grant": grant} | ({} if expires_at is None else {"expires_at": expires_at})
        answer = self.server.http.post("/admin/v1/keys", json=body)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["secret"])

    def status_with(self, secret: str) -> httpx.Response:
        return self.server.http.get("/v1/models", headers={"authorization": f"Bearer {secret}"})

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


def check_access(house: House, shift: str, number: int, tally: Tally) -> None:
    """Credentials go by the wall clock of the server, whatever it says; rates by the time that passes."""
    now = time.time() + SECONDS[shift]

    def right(what: str, secret: str, status: int) -> None:
        tally.checks += 1
        answer = house.status_with(secret)
        if answer.status_code != status:
            tally.wrong.append(f"{what} at {shift}: {answer.status_code} {answer.text[:200]}")

    right("a key of the true hour", house.keys["hour"], 401 if SECONDS[shift] > 0 else 200)
    short = house.key(f"short-{number}", expires_at=now + 3)
    right("a key before its end", short, 200)
    right("a token", token(now, 600), 200)
    right("a token that is over", token(now - 3600, 600), 401)
    right("a token of tomorrow", token(now + 2 * DAY, 600), 401)
    answers = [house.status_with(house.keys["rated"]) for _ in range(RATE + 2)]
    tally.checks += 1
    if answers[-1].status_code != 429 or not 0 < float(answers[-1].headers.get("retry-after", 0)) <= 60:
        told = [answer.status_code for answer in answers], dict(answers[-1].headers)
        tally.wrong.append(f"a rate at {shift}: {told}")
    time.sleep(max(0.0, now + 3.5 - SECONDS[shift] - time.time()))
    right("a key behind its end", short, 401)


def token(now: float, seconds: float) -> str:
    claims = {"iss": "https://id.example.org", "aud": "hearth", "sub": "ada", "role": "staff"}
    return jwt.encode(claims | {"iat": now, "nbf": now, "exp": now + seconds}, SECRET, "HS256")


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
                house.make_keys()
                for each in SHIFTS:
                    house.set_to(each)
                    check(house, each, tally)
                    check_access(house, each, tally.shifts, tally)
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
