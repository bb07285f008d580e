"""From an empty box to a cited answer and a revoked key, in a real terminal: `hearth tui` as it is run."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance import paths
from models.store import Store
from tests.conftest import require
from tests.serving import CHAT, EMBED, RERANK, Served, own_environment, share_files
from tests.tiny_model import tiny_gguf
from tests.tui.terminal import Terminal

MODELS = (CHAT, EMBED, RERANK)
PASSAGE = "The command `dpkg -L package` lists the files of an installed package."


def own_store(home: Path) -> None:
    """A store that may be changed, with the tests' models: the same files, without a copy where that goes."""
    own = Store(home / "models")
    for name in MODELS:
        model = share_files(name, own)
        own.install(model.manifest, model.origin)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    require(MODELS)
    home = tmp_path / "home"
    own_store(home)
    started = Served(home, MODELS)
    try:
        started.wait_ready()
        yield started
    finally:
        started.end()


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    folder = tmp_path / "stick"
    folder.mkdir()
    (folder / "dan.gguf").write_bytes(tiny_gguf(7, "dan"))
    (folder / "packages.md").write_text(f"# Packages\n\n{PASSAGE}\n")
    return folder


@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
def test_an_operator_does_it_all_in_a_terminal(served: Served, stick: Path, tmp_path: Path) -> None:
    command = [*paths.self_command(), "tui", "--url", served.url]
    with Terminal(command, tmp_path, own_environment(tmp_path / "operator")) as terminal:
        terminal.sees("● ready", "Models on this machine", CHAT, "in memory")
        terminal.press("s")
        terminal.sees("Requests under way", CHAT)

        terminal.press("2")
        terminal.sees("Models", "of the memory for chat models taken")
        terminal.press("i")
        terminal.sees("Bring in a model")
        terminal.press("BTab", "C-a", "C-k")
        terminal.type(str(stick))
        terminal.press("Enter")
        terminal.sees("● dan  gguf")
        terminal.press("Enter")
        terminal.sees("What is the model to be called?")
        terminal.press("Enter")
        terminal.sees("dan is here and can be asked")

        terminal.press("4")
        terminal.sees("There is none yet")
        terminal.press("n")
        terminal.sees("A new knowledge base")
        terminal.type("manuals")
        terminal.press("C-s")
        terminal.sees("manuals is made")
        terminal.sees("manuals  0")
        terminal.press("a")
        terminal.sees("Put documents into manuals")
        terminal.press("C-a", "C-k")
        terminal.type(str(stick / "packages.md"))
        terminal.press("Enter")
        terminal.sees("packages.md", "ready")

        terminal.press("3")
        terminal.sees(f"{CHAT} ", "▼ no knowledge base")
        terminal.press("F4")
        terminal.sees("▲", "manuals")
        terminal.press("Down", "Enter")
        terminal.sees("▼ manuals")
        terminal.press("C-o")  # the tiny model may find no end
        terminal.sees("How this conversation asks")
        terminal.press("Tab")
        terminal.type("0")
        terminal.press("Tab", "Tab")
        terminal.type("60")
        terminal.press("Enter")
        terminal.sees("▼ manuals", "Ask something")
        terminal.type("Which command lists the files of an installed package?")
        terminal.press("Enter")
        terminal.sees("Sources", "[1] packages.md", "tokens/s")

        terminal.press("F5", "Enter")
        terminal.sees("scroll, Esc leaves", "lists the files of an installed", "[1] packages.md")
        terminal.press("Escape")
        terminal.sees_no("scroll, Esc leaves")
        terminal.press("6")

        terminal.sees("There is no key")
        terminal.press("n")
        terminal.sees("role")
        terminal.type("boss")
        terminal.press("C-s")
        terminal.sees("The key boss", "shown this once")
        terminal.press("Escape")
        terminal.sees("boss", "active")
        terminal.press("n")
        terminal.sees("A new key")
        terminal.type("kiosk")
        terminal.press("C-s")
        terminal.sees("The key kiosk")
        terminal.press("Escape")
        terminal.sees("kiosk", "active")
        terminal.press("Down", "x")
        terminal.sees("kiosk?")
        terminal.press("Tab", "Enter")
        terminal.sees("revoked")
