"""The two servers under test, as a user would start them, with the same model file, threads and cache.

Both listen on loopback and take the same OpenAI requests; the difference is the URL. Knows how to start and
to stop them, not what they are asked.
"""

from __future__ import annotations

import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import httpx

from tests.bench.generation import peer
from tests.serving import Served

START_SECONDS = 120


@dataclass(frozen=True)
class Setup:
    """What both servers are given."""

    model: str
    weights: Path
    threads: int
    slots: int
    cells: int


class Contender(Protocol):
    name: str
    url: str


class Hearth:
    """`hearth serve` in a home of its own."""

    name = "hearth"

    def __init__(self, setup: Setup, settings: Iterable[str] = (), home: Path | None = None) -> None:
        self._directory = tempfile.TemporaryDirectory()
        lines = [
            f"generator.threads={setup.threads}",
            f"generator.slots={setup.slots}",
            f"generator.cells={setup.cells}",
            *settings,
        ]
        self._served = Served(home or Path(self._directory.name) / "home", [setup.model], lines)
        self.url = self._served.url

    def __enter__(self) -> Self:
        self._served.wait_ready()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._served.stop()
        finally:
            self._served.end()
            self._directory.cleanup()


class LlamaServer:
    """llama-server with its own defaults, prompt cache and continuous batching among them."""

    name = "llama-server"

    def __init__(self, setup: Setup, extra: Iterable[str] = ()) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        command = [
            peer.program("llama-server"),
            "-m",
            setup.weights,
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
        ]
        command += ["-t", str(setup.threads), "-np", str(setup.slots), "-c", str(setup.cells), *extra]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def __enter__(self) -> Self:
        ends_at = time.monotonic() + START_SECONDS
        while time.monotonic() < ends_at and self._process.poll() is None:
            try:
                if httpx.get(f"{self.url}/health", trust_env=False).status_code == 200:
                    return self
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        self._process.kill()
        raise RuntimeError("llama-server did not start")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
