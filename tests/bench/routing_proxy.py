"""What a whole server adds to an online answer, side by side with LiteLLM's proxy on the same service.

Run from the repository's root, with LiteLLM in a virtual environment of its own (without one, ours alone):

    python -m tests.bench.routing_proxy [--litellm PATH/bin/litellm] [--seconds 4] [--rounds 3]

The scripted online service, each proxy and this client are processes of their own. Rounds are interleaved and
figures medians of the rounds: requests per second and the median latency, whole and streamed, with one client
and with 16; `added` is the latency over asking the service itself. `memory` is a proxy's resident set.
Failover is through the whole server: a platform that never answers; the time of the whole answer less its
first-byte limit, and less what a healthy answer takes. The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
import uvloop

from appliance.routing.connection import Limits
from appliance.routing.dial import Dialer
from appliance.routing.endpoint import parse_endpoint
from appliance.routing.pool import Pool
from tests.clients.routed import platform, write_settings
from tests.serving import CHAT, Served
from tests.upstream.behaviour import Behaviour
from tests.upstream.service import Service

LIMITS = Limits(first_byte=60, between_bytes=60, answer=120)
SILENCE = 0.1  # the first-byte limit of the platform that never answers


class Asker:
    """The light client of all: one request over kept connections, its answer read to the end."""

    def __init__(self, url: str, model: str, *, stream: bool) -> None:
        self._endpoint = parse_endpoint(url, "url")
        dialer = Dialer(self._endpoint, ca_file="", proxy=None, seconds=5, check=lambda host, port: None)
        self._pool = Pool(dialer)
        message = {"role": "user", "content": "Say something."}
        body = json.dumps({"model": model, "messages": [message], "stream": stream}).encode()
        self._request = (
            f"POST {self._endpoint.base_path}/chat/completions HTTP/1.1\r\n"
            f"host: {self._endpoint.authority}\r\ncontent-type: application/json\r\n"
            f"authorization: Bearer sk-bench\r\ncontent-length: {len(body)}\r\n\r\n"
        ).encode() + body

    async def ask(self) -> None:
        connection, head = await self._pool.exchange(self._request, LIMITS)
        size = 0
        while piece := await connection.read():
            size += len(piece)
        assert head.status == 200, head
        assert size > 40, size
        self._pool.give_back(connection)

    def close(self) -> None:
        self._pool.close()


async def measure(ask: Any, clients: int, seconds: float) -> tuple[float, float]:
    """Requests per second, and the median seconds of one."""
    taken: list[float] = []
    for _ in range(3):
        await ask()
    began = time.perf_counter()

    async def client() -> None:
        while time.perf_counter() - began < seconds:
            started = time.perf_counter()
            await ask()
            taken.append(time.perf_counter() - started)

    await asyncio.gather(*(client() for _ in range(clients)))
    return len(taken) / (time.perf_counter() - began), statistics.median(taken)


@contextmanager
def scripted_service(characters: int) -> Iterator[str]:
    command = [sys.executable, "-m", "tests.upstream.service", "--characters", str(characters)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as service:
        assert service.stdout is not None
        try:
            yield service.stdout.readline().strip()
        finally:
            service.terminate()


@contextmanager
def hearth(directory: Path, url: str) -> Iterator[tuple[str, psutil.Process]]:
    cloud = platform(
        "cloud", url, model={"concurrency": 1000}, first_byte_seconds=30, between_bytes_seconds=30
    )
    write_settings(directory / "home", cloud)
    served = Served(directory / "home", (CHAT,))
    try:
        served.wait_ready()
        yield f"{served.url}/v1", psutil.Process(served.process.pid)
        served.stop()
    finally:
        served.end()


@contextmanager
def litellm(program: str, directory: Path, url: str) -> Iterator[tuple[str, psutil.Process]]:
    config = directory / "litellm.yaml"
    params = {"model": "openai/big", "api_base": url, "api_key": "sk-none"}
    config.write_text(json.dumps({"model_list": [{"model_name": "cloud", "litellm_params": params}]}))
    port = free_port()
    environment = os.environ | {
        "LITELLM_LOG": "ERROR",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",  # no keys, as we have none
    }
    command = [
        program,
        "--config",
        str(config),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--telemetry",
        "False",
    ]
    with subprocess.Popen(
        command, env=environment, cwd=directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            wait_for(port, process)
            yield f"http://127.0.0.1:{port}/v1", psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait(20)


def free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    import socket

    ends_at = time.monotonic() + 120
    while time.monotonic() < ends_at and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.2)
    raise SystemExit("the proxy did not start")


async def compare(urls: dict[str, str], given: argparse.Namespace) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for stream in (False, True):
        for clients in (1, 16):
            rounds: dict[str, list[tuple[float, float]]] = {name: [] for name in urls}
            for _ in range(given.rounds):
                for name, url in urls.items():
                    asker = Asker(url, "big" if name == "service" else "cloud", stream=stream)
                    rounds[name].append(await measure(asker.ask, clients, given.seconds))
                    asker.close()
            kind = "stream" if stream else "whole"
            direct = statistics.median(middle for _, middle in rounds["service"])
            for name, found in rounds.items():
                rate, middle = (statistics.median(column) for column in zip(*found, strict=True))
                figures[f"{name}/{kind}/{clients}"] = {
                    "requests_per_second": round(rate, 1),
                    "p50_ms": round(middle * 1000, 2),
                    "added_p50_ms": round((middle - direct) * 1000, 2),
                }
                print(
                    f"{clients:3} clients  {kind:6} {name:8} {figures[f'{name}/{kind}/{clients}']}",
                    flush=True,
                )
    return figures


def ratios(figures: dict[str, Any]) -> dict[str, Any]:
    """Goals: added latency at most a tenth, ten times the requests."""
    found: dict[str, Any] = {}
    for place in [name.removeprefix("litellm/") for name in figures if name.startswith("litellm/")]:
        ours, theirs = figures[f"hearth/{place}"], figures[f"litellm/{place}"]
        found[place] = {
            "added_p50_of_litellm": round(ours["added_p50_ms"] / theirs["added_p50_ms"], 3),
            "rate_over_litellm": round(ours["requests_per_second"] / theirs["requests_per_second"], 2),
        }
    return found


async def failovers(directory: Path, times: int) -> dict[str, Any]:
    """Milliseconds beyond the first-byte limit and beyond a healthy answer, through the whole server."""
    with (
        Service("A short answer.", default=Behaviour(before_head=60)) as silent,
        Service("A short answer.") as well,
    ):
        home = directory / "failover"
        write_settings(
            home,
            platform("silent", silent.url, 90, first_byte_seconds=SILENCE),
            platform("well", well.url, 80),
            aliases={"both": ["silent", "well"]},
        )
        served = Served(home, (CHAT,))
        try:
            served.wait_ready()
            both = Asker(f"{served.url}/v1", "both", stream=True)
            healthy = Asker(f"{served.url}/v1", "well", stream=True)
            plain, added = [], []
            for _ in range(times):
                for asker, into in ((healthy, plain), (both, added)):
                    started = time.perf_counter()
                    await asker.ask()
                    into.append(time.perf_counter() - started)
            both.close()
            healthy.close()
            served.stop()
        finally:
            served.end()
    usual = statistics.median(plain)
    beyond = sorted((each - SILENCE - usual) * 1000 for each in added)
    return {
        "failovers": times,
        "added_p50_ms": round(statistics.median(beyond), 2),
        "added_p99_ms": round(beyond[int(len(beyond) * 0.99)], 2),
    }


def run(given: argparse.Namespace) -> dict[str, Any]:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = stack.enter_context(scripted_service(given.characters))
        ours, our_process = stack.enter_context(hearth(directory, url))
        urls, processes = {"service": url, "hearth": ours}, {"hearth": our_process}
        if given.litellm:
            urls["litellm"], processes["litellm"] = stack.enter_context(
                litellm(given.litellm, directory, url)
            )
        figures = uvloop.run(compare(urls, given))
        memory = {name: round(each.memory_info().rss / 1e6) for name, each in processes.items()}
    with tempfile.TemporaryDirectory() as name:
        failed_over = uvloop.run(failovers(Path(name), given.failovers))
    print(f"failover: {failed_over}", flush=True)
    return {
        "forwarding": figures,
        "ratios": ratios(figures),
        "gateway_memory_mb": memory,
        "failover": failed_over,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--litellm", default="")
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--characters", type=int, default=40)
    parser.add_argument("--failovers", type=int, default=200)
    print(json.dumps(run(parser.parse_args())))


if __name__ == "__main__":
    main()
