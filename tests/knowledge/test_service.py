"""Knowledge as a whole, on a real encoder and extractor: nothing lost, nothing mixed, nobody else's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from appliance.config.schema import Knowledge as Settings
from appliance.errors import Forbidden, HearthError, InvalidRequest, NotFound, Overloaded, SetupError
from appliance.knowledge.service import Knowledge
from appliance.knowledge.views import NewDocument
from appliance.principal import LOCAL, Principal
from appliance.store.database import Database
from appliance.store.migrations import migrate
from appliance.store.rows import Page
from tests.conftest import require
from tests.knowledge.conftest import EMBED, MULTILINGUAL, RERANK, opened, pieces, upload

Run = Callable[[Callable[[Knowledge], Awaitable[None]]], None]

MOON = "# The Moon\n\nNeil Armstrong was the first person who walked on the Moon, in July 1969.\n"
BREAD = "# Bread\n\nKnead flour, water, yeast and salt, and let the dough rise for two hours.\n"
ADA, BOB = Principal("ada"), Principal("bob")


@pytest.fixture(autouse=True)
def models() -> None:
    require((EMBED,))


async def fill(knowledge: Knowledge, *texts: str) -> str:
    """A base of these texts; its id."""
    base = await knowledge.bases.create(LOCAL, "facts")
    await put(knowledge, base.id, *texts)
    return base.id


async def put(knowledge: Knowledge, base: str, *texts: str) -> None:
    files = [await upload(knowledge, f"{n}.md", text) for n, text in enumerate(texts)]
    await knowledge.documents.add(LOCAL, base, [NewDocument(file.id) for file in files])
    counts = await knowledge.documents.wait_until_read(LOCAL, base)
    assert counts.failed == 0


async def best(knowledge: Knowledge, base: str, question: str) -> str:
    answer = await knowledge.search(LOCAL, base, [question], 1)
    return answer.candidates[0].hit.chunk.text


def test_what_was_answered_is_there_after_a_restart(tmp_path: Path) -> None:
    async def first() -> str:
        async with opened(tmp_path) as knowledge:
            return await fill(knowledge, MOON, BREAD)

    async def second(base: str) -> None:
        async with opened(tmp_path) as knowledge:
            assert "Armstrong" in await best(knowledge, base, "first man on the Moon")
            assert (await knowledge.bases.status(LOCAL, base)).counts.completed == 2

    asyncio.run(second(asyncio.run(first())))


def test_documents_that_wait_are_read_after_a_restart(tmp_path: Path) -> None:
    async def first() -> str:
        async with opened(tmp_path) as knowledge:
            base = await knowledge.bases.create(LOCAL, "facts")
            files = [await upload(knowledge, f"{n}.md", f"{MOON}\nNumber {n}.\n" * 20) for n in range(6)]
            await knowledge.documents.add(LOCAL, base.id, [NewDocument(file.id) for file in files])
            return base.id  # and stop at once

    async def second(base: str) -> None:
        async with opened(tmp_path) as knowledge:
            assert (await knowledge.documents.wait_until_read(LOCAL, base)).completed == 6

    asyncio.run(second(asyncio.run(first())))


def test_a_second_process_is_refused(run: Run, tmp_path: Path) -> None:
    async def work(_: Knowledge) -> None:
        with pytest.raises(SetupError, match="in use by another Hearth"):
            async with opened(tmp_path):
                pass

    run(work)


def test_bases_belong_to_their_owners(run: Run) -> None:
    async def work(knowledge: Knowledge) -> None:
        base = (await knowledge.bases.create(ADA, "mine")).id
        file = await upload(knowledge, "a.md", MOON)
        page = Page(limit=10)
        refused: list[Callable[[], Awaitable[object]]] = [
            lambda: knowledge.bases.status(BOB, base),
            lambda: knowledge.bases.find(BOB, "mine"),
            lambda: knowledge.search(BOB, base, ["x"], 1),
            lambda: knowledge.bases.remove(BOB, base),
            lambda: knowledge.bases.update(BOB, base, name="x"),
            lambda: knowledge.documents.add(BOB, base, []),
            lambda: knowledge.documents.list(BOB, base, page),
            lambda: knowledge.documents.get(BOB, base, file.id),
            lambda: knowledge.documents.text(BOB, base, file.id),
            lambda: knowledge.reindex(BOB, base),
            lambda: knowledge.folders.list(BOB, base),
            lambda: knowledge.folders.add(BOB, base, Path("/tmp")),
            lambda: knowledge.files.get(BOB, file.id),
            lambda: knowledge.files.remove(BOB, file.id),
            lambda: knowledge.documents.add(ADA, base, [NewDocument(file.id)]),  # LOCAL's file
        ]
        for attempt in refused:
            with pytest.raises(NotFound):
                await attempt()
        assert await knowledge.bases.list(BOB, page) == ([], False)
        await knowledge.bases.share(ADA, base, ("bob",))
        assert (await knowledge.search(BOB, base, ["x"], 1)).candidates == ()
        assert len((await knowledge.bases.list(BOB, page))[0]) == 1
        with pytest.raises(Forbidden):
            await knowledge.bases.remove(BOB, base)
        with pytest.raises(Forbidden):
            await knowledge.documents.add(BOB, base, [])

    run(work)


def test_another_embedder_never_mixes_and_reindex_swaps(tmp_path: Path) -> None:
    require((MULTILINGUAL,))

    async def first() -> str:
        async with opened(tmp_path, (EMBED,)) as knowledge:
            return await fill(knowledge, MOON, BREAD)

    async def second(base: str) -> None:
        async with opened(tmp_path, (MULTILINGUAL,)) as knowledge:
            with pytest.raises(InvalidRequest, match="was made with the embedder all-minilm-l6-v2"):
                await knowledge.search(LOCAL, base, ["Moon"], 1)
            file = await upload(knowledge, "new.md", MOON)
            await knowledge.documents.add(LOCAL, base, [NewDocument(file.id)])
            await knowledge.documents.wait_until_read(LOCAL, base)
            refused = await knowledge.documents.get(LOCAL, base, file.id)
            assert "reindex" in refused.error_message
            assert await knowledge.reindex(LOCAL, base) == 2
            status = await knowledge.bases.status(LOCAL, base)
            assert status.base.edition.embedder == MULTILINGUAL
            assert "Armstrong" in await best(knowledge, base, "first man on the Moon")

    asyncio.run(second(asyncio.run(first())))


def test_searches_go_on_while_a_base_is_made_anew(run: Run) -> None:
    async def work(knowledge: Knowledge) -> None:
        base = await fill(knowledge, MOON, *(f"# Sheet {n}\n\nSome text of sheet {n}.\n" for n in range(20)))
        done = asyncio.create_task(knowledge.reindex(LOCAL, base))
        searches = 0
        while not done.done():
            assert "Armstrong" in await best(knowledge, base, "first man on the Moon")
            if searches == 0:
                await put(knowledge, base, BREAD)
            searches += 1
        assert await done >= 21
        assert searches > 0
        assert "yeast" in await best(knowledge, base, "how long does dough rise")

    run(work)


def test_no_text_is_embedded_twice(run: Run) -> None:
    async def work(knowledge: Knowledge) -> None:
        base = await fill(knowledge, MOON)
        misses = knowledge.cache.misses
        await put(knowledge, base, MOON)
        assert knowledge.cache.misses == misses
        assert 0 < knowledge.cache.hit_rate < 1

    run(work)


def test_a_full_queue_refuses(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path, settings=Settings(queue_documents=1)) as knowledge:
            base = await knowledge.bases.create(LOCAL, "facts")
            files = [await upload(knowledge, "a.md", MOON), await upload(knowledge, "b.md", BREAD)]
            with pytest.raises(Overloaded):
                await knowledge.documents.add(LOCAL, base.id, [NewDocument(file.id) for file in files])
            assert (await knowledge.bases.status(LOCAL, base.id)).counts.total == 0

    asyncio.run(work())


def test_a_base_expires_when_it_was_not_used(run: Run, tmp_path: Path) -> None:
    async def work(knowledge: Knowledge) -> None:
        base = await fill(knowledge, MOON)
        await knowledge.bases.update(LOCAL, base, expires_days=1, keeps_expiry=False)
        assert "Armstrong" in await best(knowledge, base, "first man on the Moon")
        other = Database(tmp_path / "knowledge" / "knowledge.db", migrate)
        yesterday = time.time() - 86_401
        other.write(
            lambda connection: connection.execute("UPDATE bases SET active_at = ?", (yesterday,))
        ).result()
        other.close()
        assert (await knowledge.bases.status(LOCAL, base)).has_expired
        with pytest.raises(InvalidRequest, match="has expired"):
            await best(knowledge, base, "first man on the Moon")

    run(work)


def test_an_expired_file_goes_with_all_that_was_made_of_it(run: Run) -> None:
    async def work(knowledge: Knowledge) -> None:
        base = await fill(knowledge, BREAD)
        received = await knowledge.files.receive(pieces(MOON.encode()))
        file = await knowledge.files.keep(LOCAL, received, "moon.md", "assistants", seconds_to_live=0)
        kept = await upload(knowledge, "kept.md", MOON)
        await knowledge.files.remove_expired()
        assert not knowledge.files.path(file.id).exists()
        assert knowledge.files.path(kept.id).exists()
        with pytest.raises(NotFound):
            await knowledge.documents.add(LOCAL, base, [NewDocument(file.id)])

    run(work)


def test_a_file_is_in_a_base_once(run: Run) -> None:
    async def work(knowledge: Knowledge) -> None:
        base = await knowledge.bases.create(LOCAL, "facts")
        file = await upload(knowledge, "a.md", MOON)
        await knowledge.documents.add(LOCAL, base.id, [NewDocument(file.id)])
        with pytest.raises(HearthError, match="already"):
            await knowledge.documents.add(LOCAL, base.id, [NewDocument(file.id)])

    run(work)


def test_reranking_where_the_language_fits(tmp_path: Path) -> None:
    require((RERANK,))

    async def work() -> None:
        async with opened(tmp_path, (EMBED, RERANK)) as knowledge:
            base = await fill(knowledge, MOON, BREAD, "Nothing about either.")
            english = await knowledge.search(LOCAL, base, ["Who walked on the Moon?"], 3, rerank=True)
            assert "Armstrong" in english.candidates[0].hit.chunk.text
            assert (english.warnings, "rerank" in english.seconds) == ((), True)
            scores = [candidate.score for candidate in english.candidates]
            assert scores == sorted(scores, reverse=True)
            chinese = await knowledge.search(LOCAL, base, ["谁在月球上行走？"], 3, rerank=True)
            assert "does not read the question's language" in chinese.warnings[0]

    asyncio.run(work())
