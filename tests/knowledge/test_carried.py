"""Bases that came with the installation: taken in once, finished after an interruption, and never back once
removed.
"""

from __future__ import annotations

import asyncio
import json
import zipfile
from pathlib import Path

from appliance.knowledge.carried import CarriedBase
from appliance.knowledge.service import Knowledge
from appliance.principal import LOCAL, Grant, Principal
from appliance.store.rows import Page
from models.region import Extent
from tests.faults.hostile_bases import document
from tests.faults.sound_pack import MANIFEST, exported, sha256
from tests.knowledge.conftest import opened

SECOND = zipfile.ZipInfo("documents/000001")
VISITOR = Principal("visitor", "visitor", "", Grant(role="user"))


def carried(path: Path, *, is_temporary: bool = False) -> CarriedBase:
    """A base of two documents, in the middle of a larger file as in an executable."""
    manifest = MANIFEST | {
        "description": "about valves",
        "documents": [*MANIFEST["documents"], document("documents/000001")],
    }
    content = exported(lambda archive: archive.writestr(SECOND, b"Pump nine is loud."), manifest)
    path.write_bytes(b"before" + content + b"behind")
    return CarriedBase(sha256(content), Extent(path, 6, len(content)), is_temporary)


async def take_in(knowledge: Knowledge, waiting: CarriedBase) -> list[str]:
    """The names of the documents that are read then."""
    await knowledge._carried.take_in([waiting])
    found, _ = await knowledge.bases.list(LOCAL, Page(limit=10, order="asc"))
    names = []
    for status in found:
        await knowledge.documents.wait_until_read(LOCAL, status.base.id)
        documents, _ = await knowledge.documents.list(LOCAL, status.base.id, Page(limit=10, order="asc"))
        names += [each.name for each in documents if each.status == "completed"]
    return names


def test_a_base_is_taken_in_once_and_everybody_may_read_it(tmp_path: Path) -> None:
    async def main() -> None:
        waiting = carried(tmp_path / "carried")
        async with opened(tmp_path) as knowledge:
            assert await take_in(knowledge, waiting) == ["a.txt", "b.txt"]
            base = await knowledge.bases.find(VISITOR, "manuals")
            assert base.description == "about valves"
            answer = await knowledge.search(VISITOR, base.id, ["Which valve is opened first?"], 1)
            assert "Valve 42" in answer.candidates[0].hit.chunk.text
            assert await take_in(knowledge, waiting) == ["a.txt", "b.txt"]
            await knowledge.bases.remove(LOCAL, base.id)
            assert await take_in(knowledge, waiting) == []
        async with opened(tmp_path) as knowledge:
            assert await take_in(knowledge, waiting) == []

    asyncio.run(main())


def test_one_that_was_cut_off_goes_on_behind_its_last_document(tmp_path: Path) -> None:
    async def main() -> None:
        waiting = carried(tmp_path / "carried", is_temporary=True)
        async with opened(tmp_path) as knowledge:
            await take_in(knowledge, waiting)
            base = await knowledge.bases.find(LOCAL, "manuals")
            documents, _ = await knowledge.documents.list(LOCAL, base.id, Page(limit=10, order="asc"))
            await knowledge.documents.remove(LOCAL, base.id, documents[1].file)
        record = tmp_path / "knowledge" / "carried.json"
        record.write_text(json.dumps({waiting.sha256: {"base": base.id, "is_whole": False}}))
        waiting = carried(tmp_path / "carried", is_temporary=True)
        async with opened(tmp_path) as knowledge:
            assert await take_in(knowledge, waiting) == ["a.txt", "b.txt"]
            assert (await knowledge.bases.find(LOCAL, "manuals")).id == base.id
        assert not (tmp_path / "carried").exists()

    asyncio.run(main())


def test_a_name_that_is_taken_is_left_to_its_owner(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as knowledge:
            own = await knowledge.bases.create(LOCAL, "manuals")
            assert await take_in(knowledge, carried(tmp_path / "carried")) == []
            assert (await knowledge.bases.find(LOCAL, "manuals")).id == own.id

    asyncio.run(main())
