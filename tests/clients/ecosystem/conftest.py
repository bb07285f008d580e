"""The server that clients outside our own lock are tested against: the starter pack's models.

`make clients` runs these with an environment of their own (requirements-clients.lock), in which Hearth is not
installed: the server is the program in .venv, as these clients would meet it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import require
from tests.serving import EMBED, MULTILINGUAL, Served

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # or its import asks GitHub

QWEN = "qwen2.5-coder-0.5b-instruct"
PROGRAM = [str(Path(__file__).parents[3] / ".venv" / "bin" / "python"), "-m", "appliance"]


@pytest.fixture(scope="session")
def starter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    models = (QWEN, EMBED, MULTILINGUAL)
    require(models)
    served = Served(
        tmp_path_factory.mktemp("home") / "starter", models, ("generator.threads=0",), program=PROGRAM
    )
    try:
        served.wait_ready(600)
        yield served
        served.stop()
    finally:
        served.end()


@pytest.fixture(scope="session")
def base_url(starter: Served) -> str:
    return f"{starter.url}/v1"
