"""Files that arrive in parts: each part whole or not there, and bounded."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from starlette.requests import ClientDisconnect

from appliance.errors import PayloadTooLarge, StorageFull
from appliance.store.parts import Parts


async def pieces(*given: bytes, then: BaseException | None = None) -> AsyncIterator[bytes]:
    for piece in given:
        yield piece
    if then is not None:
        raise then


def test_parts_are_joined_in_the_order_asked_for(tmp_path: Path) -> None:
    async def run() -> None:
        parts = Parts(tmp_path / "parts", 100)
        assert await parts.receive("upload-1", "a", pieces(b"wor", b"ld")) == 5
        assert await parts.receive("upload-1", "b", pieces(b"hello ")) == 6
        assert await parts.receive("upload-2", "a", pieces()) == 0
        assert b"".join([piece async for piece in parts.joined("upload-1", ["b", "a"])]) == b"hello world"
        assert sorted(parts.holders()) == ["upload-1", "upload-2"]
        parts.remove("upload-1")
        parts.remove("upload-1")  # gone already
        assert parts.holders() == ["upload-2"]

    asyncio.run(run())


def test_a_part_that_does_not_come_whole_is_not_there(tmp_path: Path) -> None:
    async def run() -> None:
        parts = Parts(tmp_path / "parts", 10)
        with pytest.raises(PayloadTooLarge, match="at most 10 bytes"):
            await parts.receive("upload", "large", pieces(b"x" * 6, b"x" * 6))
        with pytest.raises(ClientDisconnect):
            await parts.receive("upload", "cut", pieces(b"x", then=ClientDisconnect()))
        with pytest.raises(asyncio.CancelledError):
            await parts.receive("upload", "left", pieces(b"x", then=asyncio.CancelledError()))
        assert list((tmp_path / "parts" / "upload").iterdir()) == []

    asyncio.run(run())


def test_a_disk_that_takes_nothing_is_told(tmp_path: Path) -> None:
    parts = Parts(tmp_path / "parts", 1_000_000)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(StorageFull, match="could not be stored"):
            asyncio.run(parts.receive("upload", "a", pieces(b"x" * 100_000)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list((tmp_path / "parts" / "upload").iterdir()) == []
