"""A real folder under real notices of the kernel: what changes there changes in the base."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from appliance.errors import InvalidValue
from appliance.knowledge.scan import fingerprint, scan
from appliance.knowledge.service import Knowledge
from appliance.principal import LOCAL
from appliance.store.rows import Document, Page
from tests.knowledge.conftest import opened

Run = Callable[[Callable[[Knowledge], Awaitable[None]]], None]
PATIENCE = 60.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "watched"
    (made / "inner").mkdir(parents=True)
    (made / "one.md").write_text("# One\n\nThe first document.")
    (made / "inner" / "two.md").write_text("# Two\n\nThe second document.")
    return made


async def documents(knowledge: Knowledge, base: str) -> dict[str, Document]:
    found, _ = await knowledge.documents.list(LOCAL, base, Page(limit=100))
    return {document.name: document for document in found if document.status == "completed"}


async def until(
    knowledge: Knowledge, base: str, holds: Callable[[dict[str, Document]], bool]
) -> dict[str, Document]:
    ends_at = time.monotonic() + PATIENCE
    while not holds(found := await documents(knowledge, base)):
        assert time.monotonic() < ends_at, found
        await asyncio.sleep(0.05)
    return found


def test_a_scan_sees_plain_files_only(folder: Path) -> None:
    (folder / "loop").symlink_to(folder)
    (folder / "link.md").symlink_to(folder / "one.md")
    (folder / ".git").mkdir()
    (folder / ".git" / "config").write_text("x")
    (folder / "half.pdf.part").write_text("x")
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as bound:
        here = Path.cwd()
        os.chdir(folder)  # a socket's path may have 107 bytes at most
        bound.bind("socket")
        os.chdir(here)
        seen = scan(folder)
        assert sorted(seen.files) == ["inner/two.md", "one.md"]
        assert (seen.folders, seen.is_cut) == ({str(folder), str(folder / "inner")}, False)
    with pytest.raises(OSError, match="No such file"):
        scan(folder / "nowhere")


def test_a_pipe_or_link_in_a_files_place_is_not_read(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    (folder / "link.md").symlink_to(folder / "one.md")
    for wrong in ("pipe", "link.md", "inner"):
        with pytest.raises(OSError, match=r"no plain file|symbolic links"):
            fingerprint(folder / wrong)


def test_changes_arrive(run: Run, folder: Path) -> None:
    async def work(knowledge: Knowledge) -> None:
        base = (await knowledge.bases.create(LOCAL, "watched")).id
        watched = await knowledge.folders.add(LOCAL, base, folder)
        both = await until(knowledge, base, lambda found: set(found) == {"one.md", "inner/two.md"})
        assert both["one.md"].attributes == {"path": str(folder / "one.md")}
        # a change
        (folder / "one.md").write_text("# One\n\nThe first document, written anew.")
        changed = await until(
            knowledge, base, lambda found: "one.md" in found and found["one.md"].file != both["one.md"].file
        )
        assert set(changed) == {"one.md", "inner/two.md"}
        # a new name: the same document, not read again
        (folder / "inner" / "two.md").rename(folder / "zwei.md")
        renamed = await until(knowledge, base, lambda found: set(found) == {"one.md", "zwei.md"})
        assert renamed["zwei.md"].file == both["inner/two.md"].file
        assert renamed["zwei.md"].attributes == {"path": str(folder / "zwei.md")}
        # a deletion, and what cannot be taken in
        (folder / "one.md").unlink()
        (folder / "empty.md").touch()
        await until(knowledge, base, lambda found: set(found) == {"zwei.md"})
        ends_at = time.monotonic() + PATIENCE
        while not any(file.problem for file in (await knowledge.folders.list(LOCAL, base))[0][1].values()):
            assert time.monotonic() < ends_at
            await asyncio.sleep(0.05)
        # followed no more
        await knowledge.folders.remove(LOCAL, base, watched.id)
        assert await knowledge.folders.list(LOCAL, base) == []
        assert set(await documents(knowledge, base)) == {"zwei.md"}

    run(work)


def test_a_file_being_written_waits_until_it_stands_still(run: Run, folder: Path) -> None:
    async def work(knowledge: Knowledge) -> None:
        base = (await knowledge.bases.create(LOCAL, "watched")).id
        await knowledge.folders.add(LOCAL, base, folder)
        with (folder / "slow.txt").open("w") as file:
            for line in range(15):
                file.write(f"Line {line} of a file that is written slowly.\n")
                file.flush()
                await asyncio.sleep(0.2)
                assert "slow.txt" not in await documents(knowledge, base)
        found = await until(knowledge, base, lambda found: "slow.txt" in found)
        _, text = await knowledge.documents.text(LOCAL, base, found["slow.txt"].file)
        assert "Line 14" in text

    run(work)


def test_what_is_changed_is_found_until_it_has_been_read_anew(run: Run, folder: Path) -> None:
    async def work(knowledge: Knowledge) -> None:
        base = (await knowledge.bases.create(LOCAL, "watched")).id
        await knowledge.folders.add(LOCAL, base, folder)
        await until(knowledge, base, lambda found: len(found) == 2)
        (folder / "one.md").write_text("# One\n\nThe first document, changed.")
        seen: set[str] = set()
        while not any("changed" in text for text in seen):
            answer = await knowledge.search(LOCAL, base, ["the first document"], 2)
            texts = [each.hit.chunk.text for each in answer.candidates if each.hit.name == "one.md"]
            assert len(texts) == 1
            seen |= set(texts)
        assert len(seen) == 2

    run(work)


def test_folders_made_later_are_followed_and_links_are_not(run: Run, folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.md").write_text("not to be read")
    (folder / "link").symlink_to(outside)

    async def work(knowledge: Knowledge) -> None:
        base = (await knowledge.bases.create(LOCAL, "watched")).id
        await knowledge.folders.add(LOCAL, base, folder)
        await until(knowledge, base, lambda found: len(found) == 2)
        (folder / "new" / "deep").mkdir(parents=True)
        (folder / "new" / "deep" / "three.md").write_text("The third document.")
        os.utime(folder / "new" / "deep" / "three.md", (2e9, 2e9))  # a time that has not come yet
        await until(knowledge, base, lambda found: "new/deep/three.md" in found)
        (folder / "new" / "deep" / "four.md").write_text("The fourth document.")
        found = await until(knowledge, base, lambda found: "new/deep/four.md" in found)
        assert len(found) == 4

    run(work)


def test_what_changed_meanwhile_is_seen_at_the_start(folder: Path, tmp_path: Path) -> None:
    async def first() -> str:
        async with opened(tmp_path) as knowledge:
            base = (await knowledge.bases.create(LOCAL, "watched")).id
            await knowledge.folders.add(LOCAL, base, folder)
            await until(knowledge, base, lambda found: len(found) == 2)
            return base

    async def second(base: str) -> None:
        async with opened(tmp_path) as knowledge:
            await until(knowledge, base, lambda found: set(found) == {"inner/two.md", "three.md"})

    async def third(base: str) -> None:
        """A folder that is gone whole, like a stick that was pulled out, takes nothing with it."""
        async with opened(tmp_path) as knowledge:
            await asyncio.sleep(1.5)
            assert len(await documents(knowledge, base)) == 2

    base = asyncio.run(first())
    (folder / "one.md").unlink()
    (folder / "three.md").write_text("The third document.")
    asyncio.run(second(base))
    shutil.move(folder, tmp_path / "elsewhere")
    asyncio.run(third(base))


def test_not_every_folder_can_be_watched(run: Run, tmp_path: Path, folder: Path) -> None:
    async def work(knowledge: Knowledge) -> None:
        base = (await knowledge.bases.create(LOCAL, "watched")).id
        for wrong in (tmp_path / "nowhere", folder / "one.md", Path("relative"), tmp_path, Path("/")):
            with pytest.raises(InvalidValue):
                await knowledge.folders.add(LOCAL, base, wrong)
        await knowledge.folders.add(LOCAL, base, folder)
        with pytest.raises(InvalidValue, match="already"):
            await knowledge.folders.add(LOCAL, base, folder)

    run(work)
