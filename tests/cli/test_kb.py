"""`hearth kb` and `hearth ask --kb` against a real server, as a user types them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands import run_hearth
from tests.serving import CHAT, EMBED, Served

MOON = "# The Moon\n\nNeil Armstrong was the first person who walked on the Moon, in July 1969.\n"
BREAD = "# Bread\n\nKnead flour, water, yeast and salt, and let the dough rise for two hours.\n"


def kb(server: Served, home: Path, *words: str, status: int = 0) -> str:
    done = run_hearth("kb", *words, home=home, url=server.url)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def base(server: Served, tmp_path: Path) -> Iterator[str]:
    server.wait_ready()
    name = f"cli-{tmp_path.name}"
    kb(server, tmp_path, "create", name, "--embedder", EMBED)
    yield name
    run_hearth("kb", "remove", name, "--yes", home=tmp_path, url=server.url)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "documents"
    (made / "inner").mkdir(parents=True)
    (made / "moon.md").write_text(MOON)
    (made / "inner" / "bread.md").write_text(BREAD)
    (made / ".hidden").write_text("not for the base")
    return made


def test_from_a_folder_to_a_cited_answer(server: Served, base: str, folder: Path, tmp_path: Path) -> None:
    assert "2 added, 0 unchanged, 0 failed" in kb(server, tmp_path, "add", base, str(folder))
    (folder / "moon.md").write_text(MOON + "\nBuzz Aldrin followed him.\n")
    assert "1 added, 1 unchanged, 0 failed" in kb(server, tmp_path, "add", base, str(folder))
    listed = kb(server, tmp_path, "status", base)
    assert "bread.md" in listed
    assert listed.count("moon.md") == 1
    found = kb(server, tmp_path, "search", base, "Who", "was", "first", "on", "the", "Moon?", "--timings")
    assert found.startswith("[1] moon.md, The Moon")
    assert "embedding" in found
    words = ("ask", "--kb", base, "--model", CHAT, "--temperature", "0", "--max-tokens", "40")
    asked = run_hearth(*words, "Who walked on the Moon first?", home=tmp_path, url=server.url)
    assert asked.returncode == 0, asked.stderr
    assert "[1] moon.md, The Moon" in asked.stdout


def test_what_cannot_be_read_is_told(server: Served, base: str, tmp_path: Path) -> None:
    (tmp_path / "broken.pdf").write_bytes(b"%PDF-1.4 nothing more")
    said = kb(server, tmp_path, "add", base, str(tmp_path / "broken.pdf"), status=1)
    assert "broken.pdf: it is damaged" in said
    assert "0 added, 0 unchanged, 1 failed" in said
    assert "1" in kb(server, tmp_path, "status", base)


def test_out_and_in_again(server: Served, base: str, folder: Path, tmp_path: Path) -> None:
    kb(server, tmp_path, "add", base, str(folder))
    file = tmp_path / "base.zip"
    assert "2 documents" in kb(server, tmp_path, "export", base, str(file))
    copy = f"{base}-copy"
    assert "2 documents are in" in kb(server, tmp_path, "import", str(file), "--name", copy)
    assert "[1] bread.md" in kb(server, tmp_path, "search", copy, "how long does dough rise")
    assert "2 documents are made anew" in kb(server, tmp_path, "reindex", copy, "--embedder", EMBED)
    assert "1 documents are deleted" in kb(server, tmp_path, "remove", copy, "moon.md")
    assert "1 documents are deleted" in kb(server, tmp_path, "remove", copy, "--yes")
    assert "there is no knowledge base" in kb(server, tmp_path, "status", copy, status=1)
    (tmp_path / "no.zip").write_text("nothing")
    assert "no exported knowledge base" in kb(server, tmp_path, "import", str(tmp_path / "no.zip"), status=1)


def test_a_folder_is_followed(server: Served, base: str, folder: Path, tmp_path: Path) -> None:
    def wait_for(text: str, *, there: bool = True) -> None:
        ends_at = time.monotonic() + 60
        while (text in kb(server, tmp_path, "status", base)) != there:
            assert time.monotonic() < ends_at, kb(server, tmp_path, "status", base)
            time.sleep(0.1)

    kb(server, tmp_path, "watch", base, str(folder))
    wait_for("completed   file-")
    wait_for("inner/bread.md")
    (folder / "zebra.txt").write_text("Zebras have stripes.")
    wait_for("zebra.txt")
    (folder / "moon.md").unlink()
    wait_for("moon.md", there=False)
    assert "does not follow" in kb(server, tmp_path, "watch", base, str(folder), "--stop")
    assert "zebra.txt" in kb(server, tmp_path, "status", base)


def test_names_are_taken_once(server: Served, base: str, tmp_path: Path) -> None:
    assert "already" in kb(server, tmp_path, "create", base, status=1)
    assert "without @" in kb(server, tmp_path, "create", "a@b", status=1)
