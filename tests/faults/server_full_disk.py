"""A whole server whose home is a disk of 10 MB that fills up: under uploads, kept answers, imports, settings,
backups, the audit log, and its own log.

    python -m tests.faults.server_full_disk [--rounds 5]

Runs itself in a mount namespace of its own (`unshare`), with a tmpfs for the home. While the disk is full,
what would be stored is refused with 507; what needs no disk is answered, or refused, as `audit.when_full`
says. With room again everything goes on, nothing acknowledged is lost, the databases are sound and the audit
log tells of the lines that are missing. The last line is JSON; exits with 77 where nothing can be mounted.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import httpx

from appliance import paths
from appliance.security.audit.files import KEY, read_key
from appliance.security.audit.verify import verify_log
from appliance.store.database import check_database
from models.store import Store
from tests.commands import run_hearth
from tests.serving import ANNOUNCEMENT, Served, own_environment
from tests.tiny_model import install, tiny_gguf

MISSING = 77
MODEL = "ada"
SIZE = "10m"
NAMESPACE = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
SETTINGS = ("knowledge.enabled=true", "generator.prefix_disk=0", "config_api=true")


@dataclass
class Tally:
    rounds: int = 0
    fills: int = 0
    stored: int = 0
    refused: dict[str, int] = field(default_factory=dict)  # by what and status
    wrong: list[str] = field(default_factory=list)
    lost: int = 0
    damaged: int = 0
    audit_lost_told: int = 0
    audit_sound: bool = True
    log_bytes_on_full_disk: int = 0


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--inside", default="")
    given = parser.parse_args()
    if given.inside:
        tally = run(given.rounds, Path(given.inside))
        print(json.dumps(asdict(tally)))
        return 1 if tally.wrong or tally.lost or tally.damaged or not tally.audit_sound else 0
    with tempfile.TemporaryDirectory() as name:
        disk = Path(name) / "disk"
        disk.mkdir()
        install(Store(Path(name) / "models"), MODEL, tiny_gguf(0, MODEL), origin="catalogue")
        mounted = f'mount -t tmpfs -o size={SIZE} tmpfs "{disk}" && exec "$@"'
        if subprocess.run([*NAMESPACE, mounted, "sh", "true"], capture_output=True, check=False).returncode:
            print("no file system can be mounted in a user namespace here", file=sys.stderr)
            return MISSING
        inner = [sys.executable, "-m", "tests.faults.server_full_disk", "--inside", str(disk)]
        words = [*NAMESPACE, mounted, "sh", *inner, "--rounds", str(given.rounds)]
        return subprocess.run(words, check=False).returncode


@contextlib.contextmanager
def full(disk: Path, tally: Tally) -> Iterator[None]:
    """Not a byte is left on the disk."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (65_536, 4096, 512, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))
    tally.fills += 1
    try:
        yield
    finally:
        filler.unlink()


def run(rounds: int, disk: Path) -> Tally:
    tally = Tally()
    (disk / "home").mkdir()
    (disk / "home" / "models").symlink_to(disk.parent / "models", target_is_directory=True)
    for number in range(rounds):
        one_round(disk, number, tally)
        tally.rounds += 1
    return tally


def one_round(disk: Path, number: int, tally: Tally) -> None:
    policy = "refuse" if number % 2 else "degrade"
    home = disk / "home"
    server = Served(home, (MODEL,), (*SETTINGS, f"audit.when_full={policy}"))
    loud = Loud(disk)
    try:
        server.wait_until(lambda: asked(server).status_code == 200, 120)
        kept = {upload(server, f"kept {number} {n}".encode()): f"kept {number} {n}" for n in range(5)}
        chat = server.http.post("/v1/chat/completions", json=chat_body(store=True)).json()["id"]
        with full(disk, tally):
            while_full(server, home, policy, tally)
            size = loud.log.stat().st_size
            answers = Counter(loud.ask() for _ in range(200))
            tally.log_bytes_on_full_disk += loud.log.stat().st_size - size
            if set(answers) != {403}:  # config_api is off there
                tally.wrong.append(f"a server whose log is full: {dict(answers)}")
        server.wait_until(lambda: asked(server).status_code == 200, 30)
        after = upload(server, b"after")
        kept[after] = "after"
        for id, content in kept.items():
            tally.stored += 1
            if server.http.get(f"/v1/files/{id}/content").content != content.encode():
                tally.lost += 1
        tally.lost += server.http.get(f"/v1/chat/completions/{chat}").status_code != 200
        for id in kept:
            server.http.delete(f"/v1/files/{id}")
        server.stop()
        if status := loud.end():
            tally.wrong.append(f"a server whose log was full ended with {status}")
    except (AssertionError, httpx.HTTPError, KeyError) as error:
        tally.wrong.append(f"round {number} ({policy}): {str(error)[:600]}")
    finally:
        server.end()
        loud.process.kill()
        loud.process.wait()
    look(home, policy, tally)


def while_full(server: Served, home: Path, policy: str, tally: Tally) -> None:
    """What is asked of a server that can write nothing; each has its own right answer."""
    is_refusing = policy == "refuse"
    expect(tally, "chat", asked(server), {200, 507} if is_refusing else {200})
    if is_refusing:  # once the last page of the log is full
        server.wait_until(lambda: asked(server).status_code == 507, 30)
        expect(tally, "chat", asked(server), {507})
    files = {"file": ("f.bin", b"x" * 100_000)}
    refusals = {507}
    expect(
        tally, "upload", server.http.post("/v1/files", files=files, data={"purpose": "assistants"}), refusals
    )
    expect(tally, "keep", server.http.post("/v1/chat/completions", json=chat_body(store=True)), refusals)
    for _ in range(3):
        expect(tally, "conversation", server.http.post("/v1/conversations", json={}), refusals)
    toml = "log_level = 'info'\n" + "# room\n" * 2000
    expect(tally, "config", server.http.put("/admin/v1/config", json={"toml": toml}), refusals)
    expect(tally, "backup", server.http.post("/admin/v1/backups", json={}), refusals)
    done = run_hearth("backup", str(home / "full.tar"), home=home)
    if done.returncode != 1 or "Traceback" in done.stderr or (home / "full.tar").exists():
        tally.wrong.append(f"hearth backup: {done.returncode} {done.stderr[-300:]}")
    done = run_hearth("models", "add", str(next((home / "models" / "blobs").rglob("*"), home)), home=home)
    if "Traceback" in done.stderr:
        tally.wrong.append(f"hearth models add: {done.stderr[-300:]}")
    expect(tally, "health", server.http.get("/healthz"), {200})
    expect(tally, "status", server.http.get("/admin/v1/status"), {200})
    audit = server.http.get("/admin/v1/audit/status").json()
    if not audit["failing"]:
        tally.wrong.append(f"the audit log's trouble is not told: {audit}")


class Loud:
    """Another server in the same disk, whose log goes there too, with much to say."""

    def __init__(self, disk: Path) -> None:
        self.log = disk / "log"
        home = disk / "other"
        home.mkdir(exist_ok=True)
        if not (home / "models").exists():
            (home / "models").symlink_to(disk.parent / "models", target_is_directory=True)
        switched_off = ["audit.enabled=false", "knowledge.enabled=false", "archive.enabled=false"]
        flags = [*switched_off, f"models={MODEL}", "log_level=debug", "pull=never"]
        words = [word for flag in flags for word in ("--set", flag)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*paths.self_command(), "serve", "--port", "0", *words], stderr=log, env=own_environment(home)
            )
        self.url = self._address()

    def _address(self) -> str:
        for _ in range(1200):
            text = self.log.read_text("utf-8", "replace")
            if (at := text.find(ANNOUNCEMENT)) >= 0 and "\n" in text[at:]:
                return text[at:].removeprefix(ANNOUNCEMENT).split()[0].removesuffix("/v1")
            time.sleep(0.05)
        raise AssertionError(f"the other server did not start: {self.log.read_text()[-500:]}")

    def ask(self) -> int:
        """The status of something that is logged."""
        return httpx.put(f"{self.url}/admin/v1/config", json={"toml": "x"}, trust_env=False).status_code

    def end(self) -> int:
        self.process.terminate()
        status = self.process.wait(90)
        self.log.unlink()
        return status


def expect(tally: Tally, what: str, answer: httpx.Response, statuses: set[int]) -> None:
    seen = Counter(tally.refused)
    seen[f"{what} {answer.status_code}"] += 1
    tally.refused = dict(seen)
    if answer.status_code not in statuses:
        tally.wrong.append(f"{what}: {answer.status_code} {answer.text[:300]}")


def look(home: Path, policy: str, tally: Tally) -> None:
    for path in home.rglob("*.db"):
        try:
            check_database(path)
        except Exception as error:
            tally.damaged += 1
            tally.wrong.append(str(error))
    report = verify_log(paths.audit(home), read_key(paths.audit(home) / KEY))
    tally.audit_sound = tally.audit_sound and report.is_sound
    tally.audit_lost_told = sum(finding.fault == "lost" for finding in report.findings)
    tally.wrong += [finding.message for finding in report.findings if finding.fault != "lost"][:3]


def asked(server: Served) -> httpx.Response:
    return server.http.post("/v1/completions", json={"model": MODEL, "prompt": "hi", "max_tokens": 2})


def chat_body(**more: object) -> dict[str, object]:
    return {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2, **more}


def upload(server: Served, content: bytes) -> str:
    answer = server.http.post("/v1/files", files={"file": ("f", content)}, data={"purpose": "assistants"})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


if __name__ == "__main__":
    raise SystemExit(main())
