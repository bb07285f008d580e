"""The real server that the API's tests share, and one of their own for those that kill or fill theirs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import httpx
import pytest
from hypothesis import settings

from appliance.config.schema import Settings
from appliance.orders import estimate
from models.gguf import read_gguf
from models.store import Store
from tests.serving import CHAT, EMBED, MULTILINGUAL, RERANK, Served, missing_models, store_directory
from tests.tiny_model import install, tiny_gguf
from tests.tiny_server import NAMES, StartTiny, TinyServer

StartServer = Callable[..., Served]

# How long an example takes says more of the machine than of the code.
settings.register_profile("hearth", deadline=None, max_examples=60)
settings.load_profile("hearth")


def require(models: Iterable[str]) -> None:
    if missing := missing_models(models):
        pytest.skip(
            f"not in the model store {store_directory()}: {', '.join(missing)}; `make test` gets them"
        )


@pytest.fixture(autouse=True, scope="session")
def only_own_settings() -> Iterator[None]:
    """No HEARTH_ variable of whoever runs the tests changes what they test."""
    kept = {"HEARTH_HOME", "HEARTH_TEST_MODELS"}
    with pytest.MonkeyPatch.context() as patch:
        for name in [n for n in os.environ if n.startswith("HEARTH_") and n not in kept]:
            patch.delenv(name)
        yield


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The shared server with a model of every role; it must still end in order after all tests."""
    models = (CHAT, EMBED, MULTILINGUAL, RERANK)
    require(models)
    served = Served(tmp_path_factory.mktemp("home") / "shared", models)
    try:
        served.wait_ready()
        yield served
        served.stop()
    finally:
        served.end()


@pytest.fixture(scope="session")
def http(server: Served) -> httpx.Client:
    return server.http


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[StartServer]:
    """Starts servers of the test's own: `start_server(*settings, models=…)`. They end with the test.

    `home`: that of an earlier one, whose data the new one then has.
    """
    started: list[Served] = []

    def start(*settings: str, models: Iterable[str] = (CHAT,), home: Path | None = None) -> Served:
        require(models)
        served = Served(home or tmp_path / f"home-{len(started)}", models, settings)
        started.append(served)
        served.wait_ready()
        return served

    yield start
    for served in started:
        served.end()


@pytest.fixture(scope="session")
def tiny_bytes(tmp_path_factory: pytest.TempPathFactory) -> int:
    """What one of the models takes by its estimate."""
    path = tmp_path_factory.mktemp("tiny") / "model.gguf"
    path.write_bytes(tiny_gguf())
    return estimate(read_gguf(path), Settings(), 1 << 40).bytes


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
