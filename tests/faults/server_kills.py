"""kill -9 of the gateway and of workers at random moments, under mixed load.

    python -m tests.faults.server_kills [--count 1000] [--seed N]

Clients chat (whole and streamed), keep chats, upload files and open conversations all the time. A killed
worker is the gateway's to replace; a killed gateway is started again here, in the same home, as a service
manager would. What must hold: every write that was acknowledged is there; every request ends once, whole,
with a typed error, or with its connection; the service answers again within 3 s (p99); the audit log is
sound. The last line is JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import tempfile
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from appliance import paths
from appliance.security.audit.files import KEY, read_key
from appliance.security.audit.verify import verify_log
from models.store import Store
from tests.serving import Served, parse_events
from tests.tiny_model import install, tiny_gguf

MODEL = "ada"
CLIENTS = 6
HANGS_AFTER = 60.0  # seconds; a request may wait `limits.load_wait` (30 s) for its worker
GATEWAY_SHARE = 0.25
SETTINGS = ("knowledge.enabled=true", "archive.entries=1000000", "generator.prefix_disk=0")
TYPED = (404, 408, 429, 499, 500, 503, 504, 507)


@dataclass
class Tally:
    kills: int = 0
    gateway_kills: int = 0
    requests: int = 0
    whole: int = 0
    typed_errors: int = 0
    cut_by_gateway: int = 0  # the connection went with its gateway
    ended_wrongly: int = 0  # twice, without an end while its gateway lived, or with an untyped error
    hung: int = 0
    acknowledged: int = 0
    lost: int = 0
    server_errors: int = 0  # 500: none is expected
    worker_back_p50: float = 0.0
    worker_back_p99: float = 0.0
    worker_back_most: float = 0.0
    gateway_back_p50: float = 0.0
    gateway_back_p99: float = 0.0
    gateway_back_most: float = 0.0
    audit_sound: bool = False
    audit_lines: int = 0
    problems: list[str] = field(default_factory=list)


class House:
    """A server that is started again and again in one home, and its clients."""

    def __init__(self, home: Path, tally: Tally) -> None:
        self.home, self.tally = home, tally
        self.server = self._start()
        self.is_over = threading.Event()
        self.changing = threading.Lock()
        self.generation = 0  # of the gateway; odd while there is none
        self.written: dict[str, set[str]] = {
            "files": set(),
            "chat/completions": set(),
            "conversations": set(),
        }

    def _start(self) -> Served:
        return Served(self.home, (MODEL,), SETTINGS)

    def restart(self) -> None:
        self.server.end()
        self.server = self._start()
        self.generation += 1

    # Clients

    def client(self, number: int) -> None:
        chance = random.Random(number)
        while not self.is_over.is_set():
            generation, url = self.generation, self.server.url
            if generation % 2:
                time.sleep(0.005)
                continue
            with httpx.Client(base_url=url, timeout=HANGS_AFTER, trust_env=False) as http:
                while not self.is_over.is_set() and generation == self.generation:
                    if not self._one(http, chance, generation):
                        time.sleep(0.02)
                        break

    def _one(self, http: httpx.Client, chance: random.Random, generation: int) -> bool:
        """One request, counted by how it ended; False when there is nobody to ask."""
        kind = chance.choice(["whole", "stream", "stream", "keep", "upload", "conversation"])
        begun = time.monotonic()
        try:
            ended = getattr(self, f"_{kind}")(http, chance)
        except httpx.TransportError as error:
            took = time.monotonic() - begun
            if isinstance(error, httpx.ConnectError):
                return False
            with self.changing:
                self.tally.requests += 1
                if took >= HANGS_AFTER - 0.5:
                    self.tally.hung += 1
                    self._tell(f"{kind} hung: {error!r}; {self._state()}")
                else:
                    self._count_cut(generation, kind, error)
            return False
        with self.changing:
            self.tally.requests += 1
            setattr(self.tally, ended, getattr(self.tally, ended) + 1)
        return True

    def _count_cut(self, generation: int, kind: str, error: Exception) -> None:
        """Right only where the gateway was killed."""
        if generation == self.generation:
            self.tally.ended_wrongly += 1
            self._tell(f"{kind}: {error!r} of a living gateway")
        else:
            self.tally.cut_by_gateway += 1

    def _state(self) -> str:
        """What the server knows of its requests, for whoever looks into a hang."""
        try:
            with httpx.Client(base_url=self.server.url, timeout=5, trust_env=False) as http:
                requests = http.get("/admin/v1/requests").text
                workers = http.get("/admin/v1/status").json()["workers"]
        except (httpx.HTTPError, ValueError) as error:
            return repr(error)
        return f"{requests} {workers} {self.server.log[-1500:]}"

    def _tell(self, problem: str) -> None:
        if len(self.tally.problems) < 20:
            self.tally.problems.append(problem)

    def _judged(self, response: httpx.Response) -> str:
        if response.status_code == 200:
            return "whole"
        code = response.json()["error"]["code"]
        if response.status_code == 500:
            self.tally.server_errors += 1
            self._tell(f"500: {response.text[:200]}")
        return "typed_errors" if code and response.status_code in TYPED else "ended_wrongly"

    def _body(self, chance: random.Random, **more: Any) -> dict[str, Any]:
        prompt = " ".join(
            chance.choice(["tell", "me", "more", "of", "it"]) for _ in range(chance.randint(1, 60))
        )
        tokens = chance.choice([1, 8, 40, 120])
        return {"model": MODEL, "prompt": prompt, "max_tokens": tokens, "ignore_eos": True, **more}

    def _whole(self, http: httpx.Client, chance: random.Random) -> str:
        return self._judged(http.post("/v1/completions", json=self._body(chance)))

    def _stream(self, http: httpx.Client, chance: random.Random) -> str:
        body = self._body(chance, stream=True)
        with http.stream("POST", "/v1/completions", json=body) as response:
            raw = response.read()
        if response.status_code != 200:
            return self._judged(response)
        events, is_done = parse_events(raw)
        errors = [event for event in events if "error" in event]
        finished = [c for e in events for c in e.get("choices", []) if c.get("finish_reason")]
        if errors and not is_done and len(errors) == 1:
            return "typed_errors"
        if is_done and len(finished) == 1 and not errors:
            return "whole"
        self._tell(f"a stream ended oddly: {events[-2:]}")
        return "ended_wrongly"

    def _keep(self, http: httpx.Client, chance: random.Random) -> str:
        messages = [{"role": "user", "content": "keep this"}]
        body = {"model": MODEL, "messages": messages, "max_tokens": 2, "store": True}
        return self._written(http.post("/v1/chat/completions", json=body), "chat/completions")

    def _upload(self, http: httpx.Client, chance: random.Random) -> str:
        content = bytes(chance.getrandbits(8) for _ in range(chance.randint(1, 3000)))
        sent = http.post("/v1/files", files={"file": ("f.bin", content)}, data={"purpose": "assistants"})
        return self._written(sent, "files")

    def _conversation(self, http: httpx.Client, chance: random.Random) -> str:
        return self._written(http.post("/v1/conversations", json={}), "conversations")

    def _written(self, response: httpx.Response, kind: str) -> str:
        if response.status_code == 200:
            with self.changing:
                self.written[kind].add(response.json()["id"])
                self.tally.acknowledged += 1
        return self._judged(response)

    # Looking

    def look(self, ids: dict[str, set[str]]) -> None:
        """Counts what was acknowledged and is not there."""
        for kind, known in ids.items():
            for id in known:
                answer = self.server.http.get(f"/v1/{kind}/{id}")
                if answer.status_code != 200:
                    self.tally.lost += 1
                    self._tell(f"{kind} {id}: {answer.status_code} {answer.text[:100]}")

    def wait_until_it_answers(self) -> float:
        """Seconds until a whole answer comes."""
        begun = time.monotonic()
        while time.monotonic() - begun < 60:
            with contextlib.suppress(httpx.TransportError):
                body = {"model": MODEL, "prompt": "hi", "max_tokens": 1}
                if (
                    self.server.http.post("/v1/completions", json=body, timeout=HANGS_AFTER).status_code
                    == 200
                ):
                    return time.monotonic() - begun
            time.sleep(0.01)
        raise AssertionError(f"it does not answer any more:\n{self.server.log[-3000:]}")


def run(count: int, seed: int, directory: Path) -> Tally:
    chance, tally = random.Random(seed), Tally()
    home = directory / "home"
    install(Store(home / "models"), MODEL, tiny_gguf(0, MODEL), origin="catalogue")
    house = House(home, tally)
    house.wait_until_it_answers()
    clients = [threading.Thread(target=house.client, args=(seed * 100 + n,)) for n in range(CLIENTS)]
    for each in clients:
        each.start()
    back: dict[str, list[float]] = {"worker": [], "gateway": []}
    try:
        for number in range(count):
            time.sleep(chance.uniform(0.05, 1.0))
            kind = "gateway" if chance.random() < GATEWAY_SHARE else "worker"
            back[kind].append(_kill(house, is_gateway=kind == "gateway"))
            if number % 50 == 49:
                print(f"{number + 1} kills, {tally.requests} requests, {tally.problems[-1:]}", flush=True)
    finally:
        house.is_over.set()
        for each in clients:
            each.join()
    house.look(house.written)
    house.server.stop()
    report = verify_log(paths.audit(home), read_key(paths.audit(home) / KEY))
    tally.audit_sound, tally.audit_lines = report.is_sound, report.lines
    tally.problems += [finding.message for finding in report.findings][:5]
    for kind, seconds in back.items():
        for name, share in (("p50", 0.5), ("p99", 0.99), ("most", 1.0)):
            ordered = sorted(seconds) or [0.0]
            setattr(tally, f"{kind}_back_{name}", ordered[min(len(ordered) - 1, int(share * len(ordered)))])
    return tally


def _kill(house: House, *, is_gateway: bool) -> float:
    """Seconds from the kill to the next whole answer."""
    begun = time.monotonic()
    house.tally.kills += 1
    if is_gateway:
        house.tally.gateway_kills += 1
        with house.changing:
            before = {kind: set(sorted(ids)[-40:]) for kind, ids in house.written.items()}
        family = psutil.Process(house.server.process.pid).children(recursive=True)
        house.generation += 1
        house.server.process.kill()
        house.server.process.wait()
        while any(_is_alive(process) for process in family):
            time.sleep(0.002)
        house.restart()
        house.wait_until_it_answers()
        took = time.monotonic() - begun
        house.look(before)
        return took
    with contextlib.suppress(LookupError, psutil.NoSuchProcess, IndexError):
        house.server.worker("generator").kill()
    house.wait_until_it_answers()
    return time.monotonic() - begun


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def is_right(tally: Tally) -> bool:
    wrong = tally.ended_wrongly or tally.hung or tally.lost or tally.server_errors
    return not wrong and tally.audit_sound


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        tally = run(given.count, given.seed, Path(name))
    print(json.dumps(asdict(tally)))
    return 0 if is_right(tally) else 1


if __name__ == "__main__":
    raise SystemExit(main())
