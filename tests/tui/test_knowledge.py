"""Knowledge bases as an operator handles them, against a real server: from nothing to a passage, and away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.client.documents import remove_base
from appliance.client.knowledge import KnowledgeClient
from tests.serving import EMBED, Served
from tests.tui.operating import WIDE, operated, operating
from tui import passages

MOON = "# The Moon\n\nNeil Armstrong was the first person who walked on the Moon, in July 1969.\n"
BREAD = "# Bread\n\nKnead flour, water, yeast and salt, and let the dough rise for two hours.\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "documents"
    made.mkdir()
    (made / "moon.md").write_text(MOON)
    (made / "bread.md").write_text(BREAD)
    (made / "broken.pdf").write_text("%PDF-1.4 and no more")
    return made


@pytest.fixture
def clean(server: Served) -> Iterator[None]:
    """Bases that a test makes in the UI do not outlive it."""
    yield
    with KnowledgeClient(server.url) as client:
        for base in client.bases():
            if base["name"].startswith("ui-"):
                remove_base(client, base["id"])


@pytest.mark.usefixtures("clean")
@operated
async def test_from_an_empty_base_to_a_passage_in_its_document(server: Served, folder: Path) -> None:
    async with operating(server.url, WIDE) as operator:
        await operator.sees("● ready")
        await operator.press("4", "n")
        await operator.sees("A new knowledge base")
        await operator.type("no@name")
        await operator.press("enter")
        await operator.sees("one without @")
        await operator.press(*["backspace"] * 7)
        await operator.type("ui-notes")
        await operator.press("enter")
        await operator.sees("ui-notes: documents (0)")
        await operator.press("a")
        await operator.sees("Put documents into ui-notes")
        await operator.type(str(folder))
        await operator.press("enter")
        await operator.sees("2 added, 0 unchanged, 1 failed", "✗ it is damaged", "✓ read", seconds=60)
        await operator.press("slash")
        await operator.type("who walked on the moon")
        await operator.press("enter")
        await operator.sees("ui-notes: passages found", "[1] moon.md · The Moon", "in all", "embedding")
        await operator.press("enter")
        await operator.sees("moon.md · The Moon ─", "Neil Armstrong was the first", "Esc leaves")
        await operator.press("escape")
        await operator.sees("[1] moon.md")
        await operator.press("escape")
        await operator.sees("ui-notes: documents (3)")


@pytest.mark.usefixtures("clean")
@operated
async def test_a_base_goes_elsewhere_is_made_anew_and_removed(
    server: Served, folder: Path, tmp_path: Path
) -> None:
    with KnowledgeClient(server.url) as client:
        client.create("ui-old", embedder=EMBED)
    zipped = tmp_path / "old.zip"
    async with operating(server.url, WIDE) as operator:
        await operator.press("4")
        await operator.sees("ui-old")
        table = operator.app.screen.query_one("#knowledge-base-table")
        table.choose(next(key for key, row in table._shown.items() if row[0] == "ui-old"))
        await operator.sees("ui-old: documents")
        await operator.press("a")
        await operator.type(str(folder / "moon.md"))
        await operator.press("enter")
        await operator.sees("1 added, 0 unchanged, 0 failed", seconds=60)
        await operator.press("e")
        await operator.sees("Take ui-old elsewhere")
        await operator.press("ctrl+u")
        await operator.type(str(zipped))
        await operator.press("enter")
        await operator.until(zipped.exists, "the exported file")
        await operator.press("r")
        await operator.sees("Make ui-old anew")
        await operator.press("ctrl+s")
        await operator.sees("1 documents are made anew", seconds=60)
        await operator.press("d")
        await operator.sees("Remove the base ui-old?", "Its 1 documents")
        await operator.press("enter")  # a hasty Enter says no
        await operator.sees("ui-old: documents (1)")
        await operator.press("d", "tab", "enter")
        await operator.sees("ui-old is removed: 1 documents are gone")
        await operator.press("i")
        await operator.sees("A base from a file that Export wrote")
        await operator.type(str(zipped))
        await operator.press("enter")
        await operator.sees("ui-old: 1 documents added, 0 failed", seconds=60)


@pytest.mark.usefixtures("clean")
@operated
async def test_a_folder_is_followed_and_left(server: Served, folder: Path) -> None:
    with KnowledgeClient(server.url) as client:
        made = client.create("ui-folder", embedder=EMBED)["id"]
    async with operating(server.url, WIDE) as operator:
        await operator.press("4")
        await operator.sees("ui-folder")
        operator.app.screen.query_one("#knowledge-base-table").choose(made)
        await operator.sees("ui-folder: documents")
        await operator.press("w")
        await operator.type(str(folder))
        await operator.press("enter")
        await operator.sees("ui-folder: folders that it follows", "✓ followed")
        await operator.press("f", "d")
        await operator.sees("Follow", "no more?", "stay in the base")
        await operator.press("tab", "enter")
        await operator.sees_no("✓ followed")


@operated
async def test_a_path_that_is_not_there_is_told_and_asked_again(server: Served) -> None:
    with KnowledgeClient(server.url) as client:
        made = client.create("ui-path", embedder=EMBED)["id"]
    try:
        async with operating(server.url, WIDE) as operator:
            await operator.press("4")
            await operator.sees("ui-path")
            await operator.press("a")
            await operator.type("/nowhere/at/all")
            await operator.press("enter")
            await operator.sees("There is no /nowhere/at/all on this machine.")
    finally:
        with KnowledgeClient(server.url) as client:
            remove_base(client, made)


@pytest.mark.parametrize(
    ("question", "text", "found"),
    [
        (
            "Who walked on the moon?",
            "He walks on Moons; the walker walked.",
            ["walks", "Moons", "walker", "walked"],
        ),
        ("月球上行走", "第一个在月球上行走的人", ["月球", "上行"]),
        ("the and of", "the and of", []),
    ],
)
def test_the_words_of_a_question_are_marked(question: str, text: str, found: list[str]) -> None:
    words = passages.words_of(question)
    assert (words.findall(text) if words else []) == found


def test_a_passage_is_shown_with_what_stands_before_it() -> None:
    text = "one\ttwo\nthree four five"
    shown, before = passages.around(text, text.index("four"), text.index("five"))
    assert before == "one two\nthree "
    assert shown.plain.startswith(before + "four five")
