"""Ten times the load that the server can bear, from clients in processes of their own.

    python -m tests.faults.server_overload [--seconds 60] [--times 10] [--tokens 48]

First as many clients as there are slots ask one after the other: what they get is what the server can do.
Then requests arrive at so many times that rate, whether or not others have been answered. What must hold: no
status but 200, 429 and 503, every refusal with Retry-After, at least 0.95 of the answers per second that the
first run got, and memory that stays bounded. The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.serving import CHAT, Served

SLOTS = 4
QUEUE = 8
TOKENS = 48
PROCESSES = 2
MOST_OPEN = 800  # requests that one process has open at once
SETTINGS = (
    "knowledge.enabled=false",
    f"generator.slots={SLOTS}",
    f"generator.queue_requests={QUEUE}",
    "generator.prefix_disk=0",
)
PROMPTS = 64


@dataclass
class Tally:
    seconds: float = 0.0
    times: int = 0
    calm_per_second: float = 0.0
    offered_per_second: float = 0.0
    answered_per_second: float = 0.0
    goodput: float = 0.0  # of the calm figure
    statuses: dict[str, int] = field(default_factory=dict)
    without_retry_after: int = 0
    broken: int = 0  # connections
    refusal_p99: float = 0.0
    rss_before: int = 0
    rss_most: int = 0
    rss_after: int = 0


def body(number: int, tokens: int) -> dict[str, Any]:
    prompt = f"Number {number % PROMPTS}: tell a story of the sea."
    return {"model": CHAT, "prompt": prompt, "max_tokens": tokens, "ignore_eos": True, "temperature": 0.5}


def ask_in_turn(url: str, seconds: float, tokens: int) -> float:
    """Answers per second that `SLOTS` clients get who wait for each answer."""

    async def client(http: httpx.AsyncClient, number: int, ends_at: float) -> int:
        done = 0
        while time.monotonic() < ends_at:
            answer = await http.post("/v1/completions", json=body(number + done * SLOTS, tokens))
            done += answer.status_code == 200
        return done

    async def all_clients() -> float:
        async with httpx.AsyncClient(base_url=url, timeout=120, trust_env=False) as http:
            begun = time.monotonic()
            counts = await asyncio.gather(*(client(http, n, begun + seconds) for n in range(SLOTS)))
            return sum(counts) / (time.monotonic() - begun)

    return asyncio.run(all_clients())


def flood(url: str, per_second: float, seconds: float, tokens: int) -> dict[str, Any]:
    """One process's part of the flood, as figures."""
    statuses: Counter[str] = Counter()
    refusal_seconds: list[float] = []
    without = broken = answered_in_time = 0

    async def one(http: httpx.AsyncClient, number: int, ends_at: float) -> None:
        nonlocal without, broken, answered_in_time
        begun = time.monotonic()
        try:
            answer = await http.post("/v1/completions", json=body(number, tokens))
        except httpx.TransportError:
            broken += 1
            return
        statuses[str(answer.status_code)] += 1
        if answer.status_code == 200:
            answered_in_time += time.monotonic() < ends_at
        else:
            refusal_seconds.append(time.monotonic() - begun)
            without += "retry-after" not in answer.headers

    async def arrivals() -> None:
        limits = httpx.Limits(max_connections=MOST_OPEN, max_keepalive_connections=MOST_OPEN)
        async with httpx.AsyncClient(base_url=url, timeout=180, trust_env=False, limits=limits) as http:
            begun = time.monotonic()
            tasks = []
            for number in range(int(per_second * seconds)):
                await asyncio.sleep(max(0.0, begun + number / per_second - time.monotonic()))
                tasks.append(asyncio.ensure_future(one(http, number, begun + seconds)))
            await asyncio.gather(*tasks)

    asyncio.run(arrivals())
    ordered = sorted(refusal_seconds) or [0.0]
    return {
        "statuses": dict(statuses),
        "without": without,
        "broken": broken,
        "answered": answered_in_time,
        "refusal_p99": ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))],
    }


def run(seconds: float, times: int, tokens: int, directory: Path) -> Tally:
    tally = Tally(seconds=seconds, times=times)
    server = Served(directory / "home", (CHAT,), SETTINGS)
    try:
        server.wait_ready()
        gateway = psutil.Process(server.process.pid)
        ask_in_turn(server.url, 3, tokens)
        tally.calm_per_second = ask_in_turn(server.url, max(10.0, seconds / 3), tokens)
        tally.rss_before = gateway.memory_info().rss
        tally.offered_per_second = tally.calm_per_second * times
        share = tally.offered_per_second / PROCESSES
        command = [sys.executable, "-m", "tests.faults.server_overload", "--flood", server.url]
        flooding = [
            subprocess.Popen(
                [*command, "--rate", str(share), "--seconds", str(seconds), "--tokens", str(tokens)],
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(PROCESSES)
        ]
        while any(each.poll() is None for each in flooding):
            tally.rss_most = max(tally.rss_most, gateway.memory_info().rss)
            time.sleep(0.2)
        statuses: Counter[str] = Counter()
        answered = 0
        for each in flooding:
            assert each.stdout is not None
            figures = json.loads(each.stdout.read().splitlines()[-1])
            statuses.update(figures["statuses"])
            tally.without_retry_after += figures["without"]
            tally.broken += figures["broken"]
            answered += figures["answered"]
            tally.refusal_p99 = max(tally.refusal_p99, figures["refusal_p99"])
        tally.statuses = dict(statuses)
        tally.answered_per_second = answered / seconds
        tally.goodput = tally.answered_per_second / tally.calm_per_second
        time.sleep(1)
        tally.rss_after = gateway.memory_info().rss
        server.stop()
    finally:
        server.end()
    return tally


def is_right(tally: Tally) -> bool:
    """The goodput is for readers: it means something on a quiet machine only."""
    odd = set(tally.statuses) - {"200", "429", "503"}
    is_bounded = tally.rss_most - tally.rss_before < 64 * 1024 * 1024
    return not odd and not tally.without_retry_after and not tally.broken and is_bounded


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--tokens", type=int, default=TOKENS, help="of an answer: fewer, more requests")
    parser.add_argument("--flood", default="")
    parser.add_argument("--rate", type=float, default=1)
    given = parser.parse_args()
    if given.flood:
        print(json.dumps(flood(given.flood, given.rate, given.seconds, given.tokens)))
        return 0
    with tempfile.TemporaryDirectory() as name:
        tally = run(given.seconds, given.times, given.tokens, Path(name))
    print(json.dumps(asdict(tally)))
    return 0 if is_right(tally) else 1


if __name__ == "__main__":
    raise SystemExit(main())
