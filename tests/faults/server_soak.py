"""Hours of mixed load on one server: nothing may grow.

    python -m tests.faults.server_soak [--minutes 60]

Chats, streams, leaves in mid-stream, kept chats, uploads that are removed again, wrong bodies, screens that
look on. Memory, descriptors and tasks of the gateway, and the memory of its workers, are read all the time;
the slope is that of the second half, when all caches are full. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import httpx
import numpy as np
import psutil

from models.store import Store
from tests.serving import Served
from tests.tiny_model import install, tiny_gguf

MODEL = "ada"
CLIENTS = 4
SAMPLE_SECONDS = 5.0
MiB = 1024 * 1024
SETTINGS = ("knowledge.enabled=true", "archive.entries=200", "generator.prefix_memory=16777216")


@dataclass
class Tally:
    minutes: float = 0.0
    requests: int = 0
    failed: int = 0
    gateway_start_mib: float = 0.0
    gateway_end_mib: float = 0.0
    gateway_mib_per_hour: float = 0.0
    workers_mib_per_hour: float = 0.0
    descriptors_start: int = 0
    descriptors_end: int = 0
    tasks_end: int = 0
    busy_end: int = 0
    problems: list[str] = field(default_factory=list)


class Load:
    def __init__(self, url: str, tally: Tally) -> None:
        self.url, self.tally = url, tally
        self.is_over = threading.Event()
        self._changing = threading.Lock()

    def client(self, number: int) -> None:
        chance = random.Random(number)
        with httpx.Client(base_url=self.url, timeout=60, trust_env=False) as http:
            while not self.is_over.is_set():
                kind = chance.choice(["whole", "stream", "leave", "keep", "upload", "wrong", "look"])
                try:
                    problem = getattr(self, f"_{kind}")(http, chance)
                except httpx.TransportError as error:
                    problem = repr(error)
                with self._changing:
                    self.tally.requests += 1
                    if problem:
                        self.tally.failed += 1
                        self.tally.problems = [*self.tally.problems, f"{kind}: {problem}"][:10]

    def _body(self, chance: random.Random) -> dict[str, object]:
        prompt = "".join(chance.choice("abcdefgh ") for _ in range(chance.randint(5, 300)))
        tokens = chance.choice([1, 10, 50])
        return {"model": MODEL, "prompt": prompt, "max_tokens": tokens, "ignore_eos": True}

    def _whole(self, http: httpx.Client, chance: random.Random) -> str:
        return _unless(http.post("/v1/completions", json=self._body(chance)), 200)

    def _stream(self, http: httpx.Client, chance: random.Random) -> str:
        answer = http.post("/v1/completions", json=self._body(chance) | {"stream": True})
        return "" if answer.text.endswith("data: [DONE]\n\n") else answer.text[-200:]

    def _leave(self, http: httpx.Client, chance: random.Random) -> str:
        body = self._body(chance) | {"stream": True, "max_tokens": 150}
        with http.stream("POST", "/v1/completions", json=body) as answer:
            next(answer.iter_lines(), None)
            return _unless(answer, 200)

    def _keep(self, http: httpx.Client, chance: random.Random) -> str:
        messages = [{"role": "user", "content": "x" * chance.randint(1, 100)}]
        body = {"model": MODEL, "messages": messages, "max_tokens": 2, "store": True}
        return _unless(http.post("/v1/chat/completions", json=body), 200)

    def _upload(self, http: httpx.Client, chance: random.Random) -> str:
        files = {"file": ("f.txt", b"x" * chance.randint(1, 50_000))}
        sent = http.post("/v1/files", files=files, data={"purpose": "assistants"})
        if sent.status_code != 200:
            return sent.text[:200]
        return _unless(http.delete(f"/v1/files/{sent.json()['id']}"), 200)

    def _wrong(self, http: httpx.Client, chance: random.Random) -> str:
        body = {"model": f"nobody-{chance.random()}", "prompt": 7}
        return _unless(http.post("/v1/completions", json=body), 400)

    def _look(self, http: httpx.Client, chance: random.Random) -> str:
        path = chance.choice(["status", "history", "logs", "requests", "audit"])
        return _unless(http.get(f"/admin/v1/{path}"), 200)


def _unless(answer: httpx.Response, status: int) -> str:
    return "" if answer.status_code == status else f"{answer.status_code} {answer.text[:200]}"


def run(minutes: float, directory: Path) -> Tally:
    tally = Tally(minutes=minutes)
    home = directory / "home"
    install(Store(home / "models"), MODEL, tiny_gguf(0, MODEL), origin="catalogue")
    server = Served(home, (MODEL,), SETTINGS)
    load = Load(server.url, tally)
    try:
        server.wait_ready()
        clients = [threading.Thread(target=load.client, args=(n,)) for n in range(CLIENTS)]
        for each in clients:
            each.start()
        gateway = psutil.Process(server.process.pid)
        samples = []
        begun = time.monotonic()
        while time.monotonic() - begun < minutes * 60:
            time.sleep(SAMPLE_SECONDS)
            workers = sum(child.memory_info().rss for child in gateway.children())
            samples.append((time.monotonic() - begun, gateway.memory_info().rss, workers, gateway.num_fds()))
        load.is_over.set()
        for each in clients:
            each.join()
        time.sleep(2)
        _sum_up(tally, samples)
        status = server.http.get("/admin/v1/status").json()
        tally.busy_end = status["running"] + status["waiting"]
        figures = server.http.get("/metrics").text
        tasks = next(line for line in figures.splitlines() if line.startswith("hearth_event_loop_tasks "))
        tally.tasks_end = int(float(tasks.split()[1]))
        print(json.dumps(asdict(tally)), flush=True)
        server.stop()
    finally:
        load.is_over.set()
        server.end()
    return tally


def _sum_up(tally: Tally, samples: list[tuple[float, int, int, int]]) -> None:
    table = np.array(samples)
    half = table[len(table) // 2 :]
    tally.gateway_start_mib, tally.gateway_end_mib = table[0, 1] / MiB, table[-1, 1] / MiB
    tally.gateway_mib_per_hour = float(np.polyfit(half[:, 0], half[:, 1], 1)[0]) * 3600 / MiB
    tally.workers_mib_per_hour = float(np.polyfit(half[:, 0], half[:, 2], 1)[0]) * 3600 / MiB
    tally.descriptors_start = int(np.median(table[: max(1, len(table) // 10), 3]))
    tally.descriptors_end = int(np.median(table[-max(1, len(table) // 10) :, 3]))


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=60)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        tally = run(given.minutes, Path(name))
    print(json.dumps(asdict(tally)))
    return 1 if tally.failed or tally.busy_end else 0


if __name__ == "__main__":
    raise SystemExit(main())
