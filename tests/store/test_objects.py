"""The archive: whose things are whose, in which order, and what goes when there is too much."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.archive import Archive
from appliance.config.schema import Archive as Settings
from appliance.errors import InvalidRequest, NotFound, SetupError
from appliance.principal import Principal
from appliance.store.objects import KeptItem
from appliance.store.rows import Page

ADA, BOB = Principal("ada"), Principal("bob")
ALL = Page(limit=100, order="asc")


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    made = Archive(tmp_path / "archive", Settings(entries=3, items=4))
    yield made
    made.close()


def item(id: str, side: str = "") -> KeptItem:
    return KeptItem(id=id, side=side, body=b"{}")


def test_nobody_sees_or_touches_what_is_anothers(archive: Archive) -> None:
    async def work() -> None:
        await archive.keep(archive.new(ADA, "response", "r1", b"{}"), [item("i1", "in")])
        assert (await archive.get(ADA, "response", "r1")).owner == "ada"
        attempts = (
            lambda: archive.get(BOB, "response", "r1"),
            lambda: archive.get(ADA, "conversation", "r1"),
            lambda: archive.items(BOB, "response", "r1"),
            lambda: archive.items_page(BOB, "response", "r1", ALL, "in"),
            lambda: archive.item(BOB, "i1"),
            lambda: archive.append(BOB, "response", "r1", [item("i2")]),
            lambda: archive.change(BOB, "response", "r1", lambda kept: b"[]"),
            lambda: archive.remove_item(BOB, "response", "r1", "i1"),
            lambda: archive.remove(BOB, "response", "r1"),
        )
        for attempt in attempts:
            with pytest.raises(NotFound):
                await attempt()  # type: ignore[no-untyped-call]
        assert await archive.find_page(BOB, "response", ALL) == ([], False)
        assert (await archive.get(ADA, "response", "r1")).body == b"{}"

    asyncio.run(work())


def test_items_stay_in_their_order_and_on_their_side(archive: Archive) -> None:
    async def work() -> None:
        await archive.keep(archive.new(ADA, "conversation", "c", b"{}"), [item("a"), item("b", "out")])
        await archive.append(ADA, "conversation", "c", [item("c"), item("d")])
        assert [each.id for each in await archive.items(ADA, "conversation", "c")] == ["a", "b", "c", "d"]
        found, more = await archive.items_page(ADA, "conversation", "c", Page(limit=2, order="desc"))
        assert ([each.id for each in found], more) == (["d", "c"], True)
        found, _ = await archive.items_page(ADA, "conversation", "c", ALL, "out")
        assert [each.id for each in found] == ["b"]
        found, more = await archive.items_page(ADA, "conversation", "c", Page(limit=2, after="c"))
        assert ([each.id for each in found], more) == (["a"], False)
        with pytest.raises(InvalidRequest, match=r"archive\.items"):
            await archive.append(ADA, "conversation", "c", [item("e")])

    asyncio.run(work())


def test_the_oldest_answers_go_and_conversations_are_refused(archive: Archive) -> None:
    async def work() -> None:
        for number in range(5):
            await archive.keep(archive.new(ADA, "response", f"r{number}", b"{}"), [item(f"i{number}")])
        await archive.sweep()
        found, _ = await archive.find_page(ADA, "response", ALL)
        assert [kept.id for kept in found] == ["r2", "r3", "r4"]
        with pytest.raises(NotFound):
            await archive.item(ADA, "i0")
        for number in range(3):
            await archive.keep(archive.new(ADA, "conversation", f"c{number}", b"{}"))
        with pytest.raises(InvalidRequest, match=r"archive\.entries"):
            await archive.keep(archive.new(ADA, "conversation", "c3", b"{}"))
        await archive.keep(archive.new(BOB, "conversation", "c3", b"{}"))

    asyncio.run(work())


def test_what_is_too_old_goes(archive: Archive) -> None:
    async def work() -> None:
        await archive.keep(archive.new(ADA, "upload", "u", b"{}", expires_at=1.0))
        await archive.keep(archive.new(ADA, "response", "r", b"{}"))
        await archive.sweep()
        with pytest.raises(NotFound):
            await archive.get(ADA, "upload", "u")
        kept = await archive.get(ADA, "response", "r")
        assert kept.expires_at is not None
        assert kept.expires_at - kept.created_at == pytest.approx(30 * 86_400)

    asyncio.run(work())


def test_a_directory_has_one_owner(archive: Archive) -> None:
    with pytest.raises(SetupError, match="in use by another"):
        Archive(archive.directory, Settings())
