"""Which HTTP client forwards streams: our own over httptools, httpx, and aiohttp where it is installed.

Run from the repository's root:

    python -m tests.bench.routing_client [--requests 400] [--rounds 3] [--clients 1 16]

Each client asks the scripted online service (its own process) for the same streamed answer and reads it event
by event, JSON decoded. Rounds are interleaved, figures are medians; on a busy machine only the ratios mean
anything. The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import msgspec
import uvloop

from appliance.routing.connection import Limits
from appliance.routing.dial import Dialer
from appliance.routing.endpoint import parse_endpoint
from appliance.routing.pool import Pool
from appliance.routing.sse import EventParser

BODY = msgspec.json.encode(
    {"model": "big", "stream": True, "messages": [{"role": "user", "content": "Say something."}]}
)
LIMITS = Limits(first_byte=30, between_bytes=15, answer=60)
Ask = Callable[[], Awaitable[int]]


def count(events: list[bytes]) -> int:
    return sum(1 for event in events if event != b"[DONE]" and msgspec.json.decode(event))


class Ours:
    def __init__(self, url: str) -> None:
        self._endpoint = parse_endpoint(url, "url")
        dialer = Dialer(self._endpoint, ca_file="", proxy=None, seconds=5, check=lambda host, port: None)
        self._pool = Pool(dialer)
        self._request = (
            f"POST {self._endpoint.base_path}/chat/completions HTTP/1.1\r\n"
            f"host: {self._endpoint.authority}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(BODY)}\r\n\r\n"
        ).encode() + BODY

    async def ask(self) -> int:
        connection, _ = await self._pool.exchange(self._request, LIMITS)
        parser, events = EventParser(), 0
        while piece := await connection.read():
            events += count(parser.feed(piece))
        self._pool.give_back(connection)
        return events

    async def close(self) -> None:
        self._pool.close()


class Httpx:
    def __init__(self, url: str) -> None:
        self._url = url + "/chat/completions"
        limits = httpx.Limits(max_connections=64, max_keepalive_connections=64)
        self._client = httpx.AsyncClient(trust_env=False, timeout=30, limits=limits)

    async def ask(self) -> int:
        parser, events = EventParser(), 0
        headers = {"content-type": "application/json"}
        async with self._client.stream("POST", self._url, content=BODY, headers=headers) as response:
            async for piece in response.aiter_raw():
                events += count(parser.feed(piece))
        return events

    async def close(self) -> None:
        await self._client.aclose()


class Aiohttp:
    def __init__(self, url: str) -> None:
        self._url = url + "/chat/completions"
        library: Any = importlib.import_module("aiohttp")
        self._session = library.ClientSession(connector=library.TCPConnector(limit=64))

    async def ask(self) -> int:
        parser, events = EventParser(), 0
        headers = {"content-type": "application/json"}
        async with self._session.post(self._url, data=BODY, headers=headers) as response:
            async for piece in response.content.iter_any():
                events += count(parser.feed(piece))
        return events

    async def close(self) -> None:
        await self._session.close()


async def measure(ask: Ask, clients: int, requests: int) -> tuple[float, float, float]:
    """Requests per second, the median seconds of one, and this process's CPU seconds for one."""
    left = requests
    seconds: list[float] = []

    async def client() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            started = time.perf_counter()
            assert await ask() > 10
            seconds.append(time.perf_counter() - started)

    await ask()
    started, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(client() for _ in range(clients)))
    spent = time.process_time() - cpu
    return len(seconds) / (time.perf_counter() - started), statistics.median(seconds), spent / len(seconds)


async def run(url: str, given: argparse.Namespace) -> dict[str, Any]:
    kinds: dict[str, Any] = {"ours": Ours, "httpx": Httpx}
    if importlib.util.find_spec("aiohttp"):
        kinds["aiohttp"] = Aiohttp
    figures: dict[str, Any] = {}
    for clients in given.clients:
        rounds: dict[str, list[tuple[float, float, float]]] = {name: [] for name in kinds}
        for _ in range(given.rounds):
            for name, kind in kinds.items():
                client = kind(url)
                rounds[name].append(await measure(client.ask, clients, given.requests))
                await client.close()
        medians = {
            name: [statistics.median(column) for column in zip(*found, strict=True)]
            for name, found in rounds.items()
        }
        for name, (rate, middle, cpu) in medians.items():
            figures[f"{name}/{clients}"] = {
                "requests_per_second": round(rate, 1),
                "p50_ms": round(middle * 1000, 2),
                "cpu_ms": round(cpu * 1000, 2),
                "rate_over_httpx": round(rate / medians["httpx"][0], 2),
                "cpu_of_httpx": round(cpu / medians["httpx"][2], 2),
            }
            print(f"{clients:3} clients  {name:8} {figures[f'{name}/{clients}']}")
    return figures


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 16])
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
