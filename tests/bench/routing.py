"""What routing costs: forwarding a stream through the router, and failover beyond the configured timeout.

Run from the repository's root:

    python -m tests.bench.routing [--requests 300] [--rounds 3] [--failovers 100]

Forwarding: the same streamed answer of the scripted service (its own process) by the bare connection, by the
whole router (policy, lease, breaker, deltas), and by httpx as a relay would use it. Rounds are interleaved;
figures are medians; `cpu_ms` is this process's own work per request and holds on a busy machine, the others
only as ratios of one run. Failover: the first platform never answers; the time to the first text less its
first-byte limit. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from appliance.config.routing import Routing
from appliance.records import Started
from appliance.routing.router import Router
from tests.bench.routing_client import Httpx, Ours, measure
from tests.routing.conftest import request
from tests.upstream.behaviour import Behaviour
from tests.upstream.service import Service


def router_of(*platforms: dict[str, Any], **fields: Any) -> Router:
    settings = msgspec.convert({"mode": "hybrid", "platforms": platforms, **fields}, Routing)
    return Router(settings, {}, check=lambda host, port: None, directory=Path(), environment={})


def platform(name: str, url: str, quality: int, first_byte: float) -> dict[str, Any]:
    model = {"name": "big", "public_name": name, "quality": quality, "concurrency": 1000}
    return {
        "name": name,
        "api_base_url": url,
        "models": [model],
        "health_seconds": 0,
        "first_byte_seconds": first_byte,
    }


class Whole:
    """The whole router, as the API uses it."""

    def __init__(self, url: str) -> None:
        self._router = router_of(platform("cloud", url, 50, 30))

    async def ask(self) -> int:
        pieces = 0
        async for event in self._router.open(request()).events():
            if isinstance(event, list):
                pieces += len(event)
        return pieces

    async def close(self) -> None:
        await self._router.close()


async def forwarding(url: str, given: argparse.Namespace) -> dict[str, Any]:
    kinds: dict[str, Any] = {"connection": Ours, "router": Whole, "httpx": Httpx}
    figures: dict[str, Any] = {}
    for clients in (1, 16):
        rounds: dict[str, list[tuple[float, float, float]]] = {name: [] for name in kinds}
        for _ in range(given.rounds):
            for name, kind in kinds.items():
                client = kind(url)
                rounds[name].append(await measure(client.ask, clients, given.requests))
                await client.close()
        for name, found in rounds.items():
            rate, middle, cpu = (statistics.median(column) for column in zip(*found, strict=True))
            figures[f"{name}/{clients}"] = {
                "requests_per_second": round(rate, 1),
                "p50_ms": round(middle * 1000, 2),
                "cpu_ms": round(cpu * 1000, 2),
            }
            print(f"{clients:3} clients  {name:10} {figures[f'{name}/{clients}']}", flush=True)
    return figures


async def failover(times: int) -> dict[str, Any]:
    limit = 0.1
    added: list[float] = []
    with Service(default=Behaviour(before_head=60)) as silent, Service() as well:
        for _ in range(times):
            router = router_of(
                platform("silent", silent.url, 90, limit), platform("well", well.url, 50, limit)
            )
            started = time.perf_counter()
            added += [
                time.perf_counter() - started - limit
                async for event in router.open(request()).events()
                if isinstance(event, Started)
            ]
            await router.close()
    added.sort()
    figures = {
        "failovers": times,
        "added_p50_ms": round(statistics.median(added) * 1000, 2),
        "added_p99_ms": round(added[int(len(added) * 0.99)] * 1000, 2),
    }
    print(f"failover beyond the timeout: {figures}")
    return figures


async def run(url: str, given: argparse.Namespace) -> dict[str, Any]:
    return {"forwarding": await forwarding(url, given), "failover": await failover(given.failovers)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--failovers", type=int, default=100)
    given = parser.parse_args()
    command = [sys.executable, "-m", "tests.upstream.service"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as service:
        assert service.stdout is not None
        try:
            print(json.dumps(uvloop.run(run(service.stdout.readline().strip(), given))))
        finally:
            service.terminate()


if __name__ == "__main__":
    main()
