"""A server with small chat models of its own, and how much memory each of them takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from appliance.config.schema import Settings
from appliance.orders import estimate
from models.gguf import read_gguf
from models.store import Store
from tests.serving import Served
from tests.tiny_model import install, tiny_gguf

NAMES = ("ada", "bob", "cyd")


class TinyServer(Served):
    """Serves tiny models, of which `room_for` fit into memory at the same time."""

    def ask(self, model: str, **parameters: Any) -> httpx.Response:
        body = {"model": model, "prompt": "hi", "max_tokens": 2, "ignore_eos": True, **parameters}
        return self.http.post("/v1/completions", json=body)

    def states(self) -> dict[str, str]:
        return {model["id"]: model["state"] for model in self.http.get("/v1/models").json()["data"]}

    def resident(self) -> set[str]:
        return {name for name, state in self.states().items() if state != "unloaded"}

    def wait_for(self, seconds: float = 20, **states: str) -> None:
        self.wait_until(lambda: self.states() | states == self.states(), seconds)


@pytest.fixture(scope="session")
def tiny_bytes(tmp_path_factory: pytest.TempPathFactory) -> int:
    """What one of the models takes by its estimate."""
    path = tmp_path_factory.mktemp("tiny") / "model.gguf"
    path.write_bytes(tiny_gguf())
    return estimate(read_gguf(path), Settings(), 1 << 40).bytes


StartTiny = Callable[..., TinyServer]


@pytest.fixture
def start_tiny(tmp_path: Path, tiny_bytes: int) -> Iterator[StartTiny]:
    """`start_tiny(*settings, room_for=2)`: a server with three models, of which so many fit together."""
    started: list[TinyServer] = []

    def start(
        *settings: str, room_for: float = 2, models: tuple[str, ...] = NAMES, origin: str = "catalogue"
    ) -> TinyServer:
        home = tmp_path / f"home-{len(started)}"
        store = Store(home / "models")
        for seed, name in enumerate(NAMES):
            install(store, name, tiny_gguf(seed, name), origin=origin)
        budget = int(tiny_bytes * (room_for + 0.5))
        served = TinyServer(
            home, models, (f"generator.memory={budget}", "knowledge.enabled=false", *settings)
        )
        started.append(served)
        served.wait_ready()
        return served

    yield start
    for served in started:
        served.end()
