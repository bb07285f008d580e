"""A server with three small chat models of its own, of which so many fit into memory as a test wants."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx
import psutil

from tests.serving import Served

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


StartTiny = Callable[..., TinyServer]


@contextmanager
def long_answer(server: TinyServer, model: str) -> Iterator[httpx.Response]:
    """A stream that is under way."""
    body = {"model": model, "prompt": "hi", "max_tokens": 400, "ignore_eos": True, "stream": True}
    with (
        httpx.Client(base_url=server.url, timeout=60, trust_env=False) as client,
        client.stream("POST", "/v1/completions", json=body) as response,
    ):
        assert response.status_code == 200
        yield response


@contextmanager
def held(server: TinyServer, model: str) -> Iterator[None]:
    """The model's worker stands still."""
    workers = {each["name"]: each["pid"] for each in server.http.get("/admin/v1/status").json()["workers"]}
    worker = psutil.Process(workers[model])
    worker.suspend()
    try:
        yield
    finally:
        with suppress(psutil.NoSuchProcess):
            worker.resume()
