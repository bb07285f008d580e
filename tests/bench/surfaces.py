"""What the gateway costs: the same answers from the model's worker alone, through chat, through Responses.

    python -m tests.bench.surfaces [--rounds N] [--streams N] [--tokens N] [--threads N]

`worker`: a process that asks the generator through its handle, without HTTP. The others ask a server over
loopback from a process of their own, streaming. Rounds take turns. The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from tests.serving import CHAT, SINGLE_THREADED, Served, own_environment, store_directory

GOAL = 0.97
PROMPTS = [f"Write a very long story about the number {n} and its friends." for n in range(64)]
MOST_SECONDS = 240


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--threads", type=int, default=1, help="of the model; 0: one per core")
    parser.add_argument("--ask", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ask:
        asyncio.run(_answer(options))
        return
    settings = (f"generator.threads={options.threads}", "knowledge.enabled=false", "archive.enabled=true")
    with tempfile.TemporaryDirectory() as directory:
        served = Served(Path(directory) / "served", (CHAT,), settings)
        try:
            served.wait_ready()
            ways = {
                "worker": Asker("worker", Path(directory) / "worker", options, settings),
                "chat": Asker(f"{served.url}/v1/chat/completions", Path(directory), options, ()),
                "responses": Asker(f"{served.url}/v1/responses", Path(directory), options, ()),
            }
            spent = {name: _spent(served, ways[name], options) for name in ("chat", "responses")}
            print(json.dumps(_figures(ways, options) | {"cpu": spent}))
            for asker in ways.values():
                asker.close()
        finally:
            served.end()


def _spent(served: Served, asker: Asker, options: argparse.Namespace) -> dict[str, float]:
    """Processor time of the gateway beside the generator's, for the same answers; company changes little."""
    processes = {"gateway": psutil.Process(served.process.pid), "generator": served.worker("generator")}
    asker.ask(7, options.streams, options.tokens)
    before = {name: sum(process.cpu_times()[:2]) for name, process in processes.items()}
    tokens = sum(asker.ask(8 + n, options.streams, options.tokens)["tokens"] for n in range(options.rounds))
    took = {name: sum(process.cpu_times()[:2]) - before[name] for name, process in processes.items()}
    print(
        f"{1e6 * took['gateway'] / tokens:.0f} µs of the gateway per token, of the generator "
        f"{1e6 * took['generator'] / tokens:.0f} µs: {took['gateway'] / took['generator']:.3f}"
    )
    return {
        "gateway_per_token": took["gateway"] / tokens,
        "generator_per_token": took["generator"] / tokens,
        "share": took["gateway"] / took["generator"],
    }


class Asker:
    """A process that asks when it is told to, and says how long it took."""

    def __init__(
        self, where: str, home: Path, options: argparse.Namespace, settings: tuple[str, ...]
    ) -> None:
        home.mkdir(exist_ok=True)
        words = ["--ask", json.dumps([where, settings]), "--streams", str(options.streams)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.surfaces", *words, "--tokens", str(options.tokens)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=own_environment(home) | {"HEARTH_TEST_MODELS": str(store_directory())},
        )
        self._line()

    def ask(self, seed: int, streams: int, tokens: int) -> dict[str, float]:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{seed} {streams} {tokens}\n")
        self._process.stdin.flush()
        found: dict[str, float] = self._line()
        return found

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(MOST_SECONDS)

    def _line(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


def _figures(ways: dict[str, Asker], options: argparse.Namespace) -> dict[str, Any]:
    rates: dict[str, list[float]] = {name: [] for name in ways}
    waits: dict[str, list[float]] = {name: [] for name in ways}
    for seed in range(options.rounds + 1):
        for name, asker in ways.items():
            many = asker.ask(seed, options.streams, options.tokens)
            one = [asker.ask(seed * 100 + n, 1, 1)["seconds"] for n in range(10)]
            if seed:  # the first round warms caches
                rates[name].append(many["tokens"] / many["seconds"])
                waits[name] += one
    rate = {name: statistics.median(found) for name, found in rates.items()}
    wait = {name: statistics.median(found) for name, found in waits.items()}
    per_token = {name: 1e6 * (1 / rate[name] - 1 / rate["worker"]) for name in ("chat", "responses")}
    print(f"{'':12}{'tokens/s':>10}{'of worker':>11}{'µs/token':>10}{'one token':>12}{'more':>9}")
    for name in ways:
        print(
            f"{name:12}{rate[name]:10.1f}{rate[name] / rate['worker']:11.3f}{per_token.get(name, 0):10.0f}"
            f"{1000 * wait[name]:9.2f} ms{1000 * (wait[name] - wait['worker']):6.2f} ms"
        )
    return {
        "streams": options.streams,
        "threads": options.threads,
        "tokens_per_second": rate,
        "chat_of_worker": rate["chat"] / rate["worker"],
        "responses_of_chat": rate["responses"] / rate["chat"],
        "request_overhead_seconds": wait["chat"] - wait["worker"],
        "goal": GOAL,
        "rates": rates,
    }


# The asking processes


async def _answer(options: argparse.Namespace) -> None:
    where, settings = json.loads(options.ask)
    way = await _Worker.opened(settings) if where == "worker" else _Http(where)
    print("true", flush=True)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        seed, streams, tokens = map(int, line.split())
        begun = time.perf_counter()
        counts = await asyncio.gather(*(way.tokens(f"{seed}: {PROMPTS[n]}", tokens) for n in range(streams)))
        took = time.perf_counter() - begun
        print(json.dumps({"seconds": took, "tokens": sum(counts)}), flush=True)
    await way.close()


class _Worker:
    """The generator's process through its handle, as the gateway has it."""

    def __init__(self, runtime: Any) -> None:
        self._runtime = runtime
        self._handle = runtime.generator(CHAT)

    @classmethod
    async def opened(cls, lines: list[str]) -> _Worker:
        from appliance.config.layers import load
        from appliance.runtime import Runtime
        from models.library import Library
        from models.store import Store

        flags = dict(line.split("=", 1) for line in [*SINGLE_THREADED, f"models={CHAT}", *lines])
        runtime = Runtime(load(Path("none.toml"), {}, flags), Library(Store(store_directory())))
        runtime.start()
        while not runtime.is_ready:  # noqa: ASYNC110 - a benchmark waits here once
            await asyncio.sleep(0.05)
        return cls(runtime)

    async def tokens(self, prompt: str, most: int) -> int:
        from appliance.records import ChatPrompt, Ended, Message, SamplingParams

        chat = ChatPrompt(messages=(Message(role="user", content=prompt),))
        sampling = SamplingParams(max_tokens=most, temperature=0)
        async for event in self._handle.generate(chat, sampling):
            if isinstance(event, Ended):
                return event.usage.completion_tokens
        raise AssertionError("no end")

    async def close(self) -> None:
        await self._runtime.stop()


class _Http:
    """A client that reads what it is sent and decodes the last event only: its own cost is no figure here."""

    def __init__(self, url: str) -> None:
        host, _, path = url.removeprefix("http://").partition("/")
        self._host, port = host.split(":")
        self._port, self._path = int(port), f"/{path}"

    async def tokens(self, prompt: str, most: int) -> int:
        body: dict[str, Any] = {"model": CHAT, "temperature": 0, "stream": True}
        if self._path.endswith("responses"):
            body |= {"input": prompt, "max_output_tokens": most, "store": False}
        else:
            messages = [{"role": "user", "content": prompt}]
            body |= {"messages": messages, "max_tokens": most, "stream_options": {"include_usage": True}}
        raw = json.dumps(body).encode()
        reader, writer = await asyncio.open_connection(self._host, self._port, limit=1 << 20)
        head = f"POST {self._path} HTTP/1.1\r\nhost: {self._host}:{self._port}\r\nconnection: close\r\n"
        writer.write(
            f"{head}content-type: application/json\r\ncontent-length: {len(raw)}\r\n\r\n".encode() + raw
        )
        last = b""
        while piece := await reader.read(1 << 16):
            last = (last + piece)[-16_384:]
        writer.close()
        lines = [line[6:] for line in last.split(b"\n") if line.startswith(b"data: {")]
        usage = (found := json.loads(lines[-1])).get("usage") or found["response"]["usage"]
        return int(usage.get("completion_tokens") or usage["output_tokens"])

    async def close(self) -> None: ...


if __name__ == "__main__":
    main()
