"""The README's promises: its examples run, and nothing that exists is missing from it."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.api.routes import OPERATIONS
from appliance.cli.main import COMMANDS
from models.pack import catalogue
from tests.commands import run_hearth
from tests.serving import CHAT, Served

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
ADDRESS = "http://127.0.0.1:8080"
README_FOLDER = "~/Documents/manuals"
README_BASE = "manuals"
README_CHAT = "qwen2.5-coder-0.5b-instruct"  # tests serve the tiny chat model in its place


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


CURLS = [block for block in blocks("sh") if block.startswith("curl")]
HEARTH_COMMANDS = [
    line for block in blocks("sh") for line in block.splitlines() if line.startswith(".venv/bin/hearth")
]


def adapted(text: str, server: Served) -> str:
    return text.replace(ADDRESS, server.url).replace(README_CHAT, CHAT)


@pytest.fixture(scope="module")
def manuals(server: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What the examples put into a base; the base goes when they are over."""
    folder = tmp_path_factory.mktemp("manuals")
    (folder / "packages.md").write_text(
        "# Packages\n\nThe command `dpkg -L package` lists the files of an installed package."
    )
    yield folder
    for base in server.http.get("/v1/vector_stores").json()["data"]:
        if base["name"] == README_BASE:
            server.http.delete(f"/v1/vector_stores/{base['id']}")


def test_there_are_examples_of_each_kind() -> None:
    assert len(CURLS) >= 3
    assert len(blocks("python")) >= 1
    assert len(HEARTH_COMMANDS) >= 5


@pytest.mark.parametrize("command", CURLS)
def test_curl_examples_answer(command: str, server: Served) -> None:
    words = shlex.split(adapted(command, server))
    done = subprocess.run([*words, "--fail"], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"error"' not in done.stdout


@pytest.mark.parametrize(
    "line", [line for line in HEARTH_COMMANDS if not line.endswith((" chat", " verify"))]
)
def test_hearth_examples_run(line: str, server: Served, manuals: Path, tmp_path: Path) -> None:
    """In the order of the page: the knowledge base is made by one, and used by the next."""
    words = shlex.split(line.replace(".venv/bin/hearth", "").replace(README_FOLDER, str(manuals)))
    if "ask" in words:
        words += ["--max-tokens", "50"]  # the tiny model may not find an end
    done = run_hearth(*words, home=tmp_path, url=server.url)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip()


@pytest.mark.parametrize("program", blocks("python"))
def test_python_examples_run(program: str, server: Served, manuals: Path) -> None:
    """After the commands: one of them asks the base that those have made."""
    assert manuals.exists()
    done = subprocess.run(
        [sys.executable, "-c", adapted(program, server)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.parametrize(
    "operation", OPERATIONS, ids=lambda operation: f"{operation.method} {operation.path}"
)
def test_every_path_is_listed(operation: object) -> None:
    assert f"`{operation.method} {operation.path}`" in README  # type: ignore[attr-defined]


def test_every_command_appears() -> None:
    assert [name for name in COMMANDS if f"hearth {name}" not in README] == []


def test_every_catalogued_model_is_listed() -> None:
    assert [model.name for model in catalogue().models() if f"`{model.name}`" not in README] == []


def test_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\((?!http)([^)#]+)", README)
    assert [target for target in targets if not (ROOT / target).exists()] == []
