"""Slow headers, bodies and readers: hundreds of clients that hold what they got, beside some that behave.

    python -m tests.faults.slow_clients [--count 500] [--seconds 12]

For each kind: when the server left each slow client, and how long the requests of the well-behaved took
before and meanwhile. The slow ones come from another address and another process. The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from msgspec import Struct
from msgspec.json import decode, encode

from models.store import Store
from tests.serving import Served
from tests.tiny_model import install, tiny_gguf

KINDS = ("head", "body", "reader")
SLOW_ADDRESS = "127.0.0.2"
DRIBBLE_SECONDS = 0.5  # between two bytes
LONGEST = 20.0  # seconds until a slow client gives up waiting to be left
FILE_BYTES = 16 * 1024 * 1024
PROBES = 4  # well-behaved clients
PROBE_PAUSE = 0.01  # seconds between their requests
MODEL = "ada"


class Attack(Struct, kw_only=True):
    """`evicted`: seconds until each slow client was left; `kept`: how many were not."""

    evicted: list[float]
    kept: int
    refused: int


class Found(Struct, kw_only=True):
    """Times in seconds; p99 of the well-behaved clients' requests before and during the attack."""

    kind: str
    count: int
    evicted: int
    kept: int
    refused: int
    evicted_latest: float
    requests: int
    failed: int
    p99_before: float
    p99_during: float


async def _slow_client(kind: str, host: str, port: int, path: str, found: Attack) -> None:
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # before it connects, or it is no limit
    connection.setblocking(False)
    try:
        connection.bind((SLOW_ADDRESS, 0))
        await asyncio.get_running_loop().sock_connect(connection, (host, port))
    except OSError:
        found.refused += 1
        return
    loop = asyncio.get_running_loop()
    head = f"Host: {host}:{port}\r\n"
    first = {
        "head": f"GET /version HTTP/1.1\r\n{head}X-Slow: ",
        "body": f"POST /v1/completions HTTP/1.1\r\n{head}Content-Length: 100000\r\n\r\n",
        "reader": f"GET {path} HTTP/1.1\r\n{head}\r\n",
    }[kind]
    began = time.monotonic()
    try:
        await loop.sock_sendall(connection, first.encode("ascii"))
        if kind == "reader" and not (await loop.sock_recv(connection, 12)).endswith(b" 200"):
            found.refused += 1
            return
        while time.monotonic() - began < LONGEST:
            if kind == "reader":
                await asyncio.sleep(DRIBBLE_SECONDS)
                if connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    raise ConnectionResetError  # reading would first give what had arrived before
            else:
                await loop.sock_sendall(connection, b"x")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(DRIBBLE_SECONDS):
                    if not await loop.sock_recv(connection, 1):
                        raise ConnectionResetError
                if kind != "reader":  # the first byte of the error that it is left with
                    raise ConnectionResetError
        found.kept += 1
    except OSError:
        found.evicted.append(time.monotonic() - began)
    finally:
        connection.close()


async def _attack(kind: str, url: str, path: str, count: int) -> Attack:
    where = urlsplit(url)
    found = Attack(evicted=[], kept=0, refused=0)
    clients = (_slow_client(kind, where.hostname or "", where.port or 0, path, found) for _ in range(count))
    await asyncio.gather(*clients)
    return found


class _Probe:
    """Well-behaved clients: how long their requests take."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.times: list[float] = []
        self.failed = 0

    def run(self, seconds: float) -> None:
        ends_at = time.monotonic() + seconds
        threads = [threading.Thread(target=self._ask, args=(ends_at, n)) for n in range(PROBES)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _ask(self, ends_at: float, number: int) -> None:
        body = {"model": MODEL, "prompt": "hi", "max_tokens": 2, "ignore_eos": True}
        with httpx.Client(base_url=self._url, timeout=60, trust_env=False) as client:
            while time.monotonic() < ends_at:
                began = time.perf_counter()
                answer = client.get("/v1/models") if number % 2 else client.post("/v1/completions", json=body)
                self.times.append(time.perf_counter() - began)
                self.failed += answer.status_code != 200
                time.sleep(PROBE_PAUSE)

    @property
    def p99(self) -> float:
        ordered = sorted(self.times) or [0.0]
        return ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]


def run(
    home: Path, count: int, seconds: float, kinds: Sequence[str] = KINDS, settings: Sequence[str] = ()
) -> list[Found]:
    """The figures of each kind, against a server of its own in `home`."""
    install(Store(home / "models"), MODEL, tiny_gguf(0, MODEL), origin="catalogue")
    served = Served(home, (MODEL,), ("limits.address_connections=2000", "limits.connections=3000", *settings))
    try:
        served.wait_ready()
        upload = served.http.post(
            "/v1/files",
            files={"file": ("large.bin", b"x" * FILE_BYTES)},
            data={"purpose": "assistants"},
        )
        path = f"/v1/files/{upload.raise_for_status().json()['id']}/content"
        return [_one(served, kind, path, count, seconds) for kind in kinds]
    finally:
        served.end()


def _one(served: Served, kind: str, path: str, count: int, seconds: float) -> Found:
    before, during = _Probe(served.url), _Probe(served.url)
    before.run(seconds)
    words = ["--attack", kind, "--url", served.url, "--path", path, "--count", str(count)]
    attacker = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.slow_clients", *words], stdout=subprocess.PIPE
    )
    during.run(seconds)
    output, _ = attacker.communicate(timeout=60 + LONGEST)
    attack = decode(output.splitlines()[-1], type=Attack)
    return Found(
        kind=kind,
        count=count,
        evicted=len(attack.evicted),
        kept=attack.kept,
        refused=attack.refused,
        evicted_latest=max(attack.evicted, default=0.0),
        requests=len(during.times),
        failed=during.failed + before.failed,
        p99_before=before.p99,
        p99_during=during.p99,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--kind", choices=KINDS, action="append")
    parser.add_argument("--attack", choices=KINDS)
    parser.add_argument("--url", default="")
    parser.add_argument("--path", default="")
    given = parser.parse_args()
    if given.attack:
        print(encode(asyncio.run(_attack(given.attack, given.url, given.path, given.count))).decode())
        return 0
    with tempfile.TemporaryDirectory() as home:
        found = run(Path(home) / "home", given.count, given.seconds, given.kind or KINDS)
    print("| kind | clients | left | latest | kept | p99 before | during | ratio |")
    print("|---|---|---|---|---|---|---|---|")
    for each in found:
        ratio = each.p99_during / (each.p99_before or 1.0)
        print(
            f"| {each.kind} | {each.count} | {each.evicted} | {each.evicted_latest:.1f} s | {each.kept} | "
            f"{each.p99_before * 1000:.1f} ms | {each.p99_during * 1000:.1f} ms | {ratio:.2f} |"
        )
    print(json.dumps([json.loads(encode(each)) for each in found]))
    return 0 if all(each.evicted == each.count for each in found) else 1


if __name__ == "__main__":
    sys.exit(main())
