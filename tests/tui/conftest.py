"""The servers that the flows of several screens share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from models.store import Store
from tests.tiny_model import install, tiny_gguf
from tests.tiny_server import TinyServer

SETTINGS = """\
# The box in the cellar.
config_api = true

[routing]
mode = "hybrid"
policy = "local-first"

[[routing.platforms]]
name = "cloud"
api_base_url = "http://127.0.0.1:9/v1"
health_seconds = 0

[[routing.platforms.models]]
name = "big"
quality = 80
"""


@pytest.fixture(scope="session")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TinyServer]:
    """A server with one small model whose settings may be changed through the API; nobody needs a key."""
    home = tmp_path_factory.mktemp("box") / "home"
    install(Store(home / "models"), "ada", tiny_gguf(0, "ada"), origin="catalogue")
    (home / "hearth.toml").write_text(SETTINGS)
    served = TinyServer(home, ("ada",), ("knowledge.enabled=false",))
    try:
        served.wait_ready()
        yield served
        served.stop()
    finally:
        served.end()
