"""The load: a process of its own that streams many requests at once and notes when each piece arrives.

    python -m tests.bench.generation.client < order.json

Reads one order from standard input and writes one JSON line of answers. It parses as little as it can,
because it runs on the processors that the servers need: an event with text is a line that matches a
pattern.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from typing import Any
from urllib.parse import urlsplit

TEXT = re.compile(rb'"(?:content|text|reasoning_content)":\s*"[^"]')
LIMIT = 1 << 20
MOST_SECONDS = 300


async def ask(url: str, job: dict[str, Any], begun: float) -> dict[str, Any]:
    """One request: seconds since `begun` at which it was sent and each piece of text came, and its usage."""
    await asyncio.sleep(job.get("delay", 0.0))
    address = urlsplit(url)
    body = json.dumps(job["body"]).encode()
    reader, writer = await asyncio.open_connection(address.hostname, address.port, limit=LIMIT)
    sent = time.perf_counter() - begun
    writer.write(
        f"POST {job['path']} HTTP/1.1\r\nhost: {address.netloc}\r\nconnection: close\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode()
        + body
    )
    arrivals: list[float] = []
    last = b""
    status = (await reader.readline()).split()[1]
    if status != b"200":
        raise RuntimeError(f"status {status.decode()}: {(await reader.read()).decode()[:500]}")
    while line := await reader.readline():
        if not line.startswith(b"data: "):
            continue
        if TEXT.search(line):
            arrivals.append(time.perf_counter() - begun)
        if b'"usage":' in line and b'"usage":null' not in line:
            last = line
    ended = time.perf_counter() - begun
    writer.close()
    usage = json.loads(last.removeprefix(b"data: "))["usage"]
    return {"sent": sent, "arrivals": arrivals, "ended": ended, "usage": usage}


async def run(order: dict[str, Any]) -> list[dict[str, Any]]:
    begun = time.perf_counter()
    async with asyncio.timeout(MOST_SECONDS):
        return list(await asyncio.gather(*(ask(order["url"], job, begun) for job in order["jobs"])))


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run(json.loads(sys.stdin.read())))))
