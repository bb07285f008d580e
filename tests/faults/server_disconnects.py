"""Clients that leave: while their request waits for a slot, while its prompt is computed, in mid-stream.

    python -m tests.faults.server_disconnects [--count 1000] [--seed N]

After each leave it is measured when the server has forgotten the request: it is with no model any more, and
the worker has freed its slot. At the end nothing may be left over: no slot, no cell of the KV cache (a prompt
that needs all of them is answered), no file descriptor, no task of the event loop. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import socket
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import psutil

from models.store import Store
from tests.serving import Served
from tests.tiny_model import CONTEXT, install, tiny_gguf

MODEL = "ada"
SLOTS = 2
SETTINGS = (
    "knowledge.enabled=false",
    "archive.enabled=false",
    f"generator.slots={SLOTS}",
    "generator.prefix_disk=0",
    "generator.prefix_memory=0",
)
Moment = Literal["queued", "prefill", "stream"]
MOMENTS: tuple[Moment, ...] = ("queued", "prefill", "stream")
FREE_WITHIN = 10.0  # seconds; a slot that is not free by then is leaked


@dataclass
class Tally:
    leaves: dict[str, int] = field(default_factory=dict)
    free_p50: dict[str, float] = field(default_factory=dict)
    free_p99: dict[str, float] = field(default_factory=dict)
    free_most: float = 0.0
    leaked_slots: int = 0
    leaked_descriptors: int = 0
    leaked_tasks: int = 0
    all_cells_usable: bool = False
    missed: int = 0  # had been answered before the client left


class Client:
    """A raw connection, which can be closed at any moment."""

    def __init__(self, url: str, id: str, body: dict[str, Any]) -> None:
        parts = urlsplit(url)
        raw = json.dumps(body).encode()
        self.id = id
        self._socket = socket.create_connection((parts.hostname or "", parts.port or 0), 30)
        head = (
            f"POST /v1/completions HTTP/1.1\r\nhost: {parts.netloc}\r\nx-request-id: {id}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(raw)}\r\n\r\n"
        )
        self._socket.sendall(head.encode() + raw)

    def wait_for_text(self) -> None:
        received = b""
        while received.count(b"data: {") < 2 and b"data: [DONE]" not in received:
            piece = self._socket.recv(65_536)
            if not piece:
                return
            received += piece

    def leave(self) -> None:
        self._socket.close()


def body(chance: random.Random, *, prompt: int, tokens: int) -> dict[str, Any]:
    """A fresh prompt of so many tokens, a byte each: nothing of it is known already."""
    text = "".join(chance.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(prompt - 2))
    return {"model": MODEL, "prompt": text, "max_tokens": tokens, "ignore_eos": True, "stream": True}


class House:
    def __init__(self, home: Path) -> None:
        install(Store(home / "models"), MODEL, tiny_gguf(0, MODEL, blocks=8), origin="catalogue")
        self.server = Served(home, (MODEL,), SETTINGS)
        self.server.wait_ready()

    def requests(self) -> dict[str, str]:
        """The requests that are with a model, and how far each is."""
        found = self.server.http.get("/admin/v1/requests").json()["data"]
        return {each["request"]: each["phase"] for each in found}

    def busy(self) -> int:
        """Requests that the worker computes or that wait in it."""
        worker = self.server.http.get("/admin/v1/status").json()["workers"][0]
        return int(worker["running"] or 0) + int(worker["waiting"] or 0)

    def figure(self, name: str) -> float:
        for line in self.server.http.get("/metrics").text.splitlines():
            if line.startswith(f"{name} "):
                return float(line.rpartition(" ")[2])
        raise KeyError(name)

    def wait_until_idle(self) -> None:
        self.server.wait_until(lambda: not self.requests() and self.busy() == 0, 60)


def leave_once(
    house: House, moment: Moment, number: int, chance: random.Random, tally: Tally
) -> float | None:
    """Seconds until the request was gone; None when it had been answered before."""
    others = []
    if moment == "queued":  # every slot is taken by others
        for n in range(SLOTS):
            other = Client(house.server.url, f"other-{number}-{n}", body(chance, prompt=20, tokens=400))
            other.wait_for_text()
            others.append(other)
    prompt = 440 if moment == "prefill" else 40
    client = Client(house.server.url, f"leaver-{number}", body(chance, prompt=prompt, tokens=60))
    if moment == "stream":
        client.wait_for_text()
    else:
        wanted = "queued" if moment == "queued" else "running"
        ends_at = time.monotonic() + 5
        while house.requests().get(client.id) not in (wanted, "running") and time.monotonic() < ends_at:
            time.sleep(0.001)
    time.sleep(chance.uniform(0, 0.01))
    was_there = client.id in house.requests()
    busy_before = house.busy() if moment != "queued" else 0
    begun = time.monotonic()
    client.leave()
    while client.id in house.requests():
        if time.monotonic() - begun > FREE_WITHIN:
            tally.leaked_slots += 1
            break
    if moment != "queued":
        while house.busy() > 0 and busy_before:
            if time.monotonic() - begun > FREE_WITHIN:
                tally.leaked_slots += 1
                break
    took = time.monotonic() - begun
    for other in others:
        other.leave()
    if others:
        house.wait_until_idle()
    return took if was_there else None


def run(count: int, seed: int, directory: Path) -> Tally:
    chance, tally = random.Random(seed), Tally()
    house = House(directory / "home")
    try:
        for number in range(10):  # what is made once is made
            leave_once(house, MOMENTS[number % 3], -1 - number, chance, Tally())
        house.wait_until_idle()
        time.sleep(1)
        gateway = psutil.Process(house.server.process.pid)
        descriptors, tasks = gateway.num_fds(), house.figure("hearth_event_loop_tasks")
        seconds: dict[str, list[float]] = {moment: [] for moment in MOMENTS}
        for number in range(count):
            moment = MOMENTS[number % 3]
            took = leave_once(house, moment, number, chance, tally)
            tally.leaves[moment] = tally.leaves.get(moment, 0) + 1
            if took is None:
                tally.missed += 1
            else:
                seconds[moment].append(took)
        house.wait_until_idle()
        time.sleep(1)
        tally.leaked_descriptors = max(0, gateway.num_fds() - descriptors)
        tally.leaked_tasks = max(0, int(house.figure("hearth_event_loop_tasks") - tasks))
        whole = body(chance, prompt=CONTEXT - 20, tokens=10) | {"stream": False}
        tally.all_cells_usable = all(
            answer.status_code == 200
            for answer in [house.server.http.post("/v1/completions", json=whole) for _ in range(SLOTS)]
        )
        for moment, measured in seconds.items():
            ordered = sorted(measured) or [0.0]
            tally.free_p50[moment] = ordered[len(ordered) // 2]
            tally.free_p99[moment] = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
            tally.free_most = max(tally.free_most, ordered[-1])
        house.server.stop()
    except TimeoutError as error:
        state = [house.requests(), house.server.http.get("/admin/v1/status").json()["workers"]]
        raise AssertionError(f"an answer did not come: {state}\n{house.server.log[-2000:]}") from error
    finally:
        house.server.end()
    return tally


def is_right(tally: Tally) -> bool:
    leaked = tally.leaked_slots or tally.leaked_descriptors or tally.leaked_tasks
    return not leaked and tally.all_cells_usable


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
