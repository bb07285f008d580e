"""Pieces of files that are not whole yet: a directory for each file, a file for each piece."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from appliance.errors import PayloadTooLarge, StorageFull

READ_BYTES = 1024 * 1024


class Parts:
    """`most_bytes` of one part. Names come from the server, never out of a request."""

    def __init__(self, directory: Path, most_bytes: int) -> None:
        self._directory, self._most_bytes = directory, most_bytes
        directory.mkdir(parents=True, exist_ok=True)

    async def receive(self, holder: str, part: str, content: AsyncIterator[bytes]) -> int:
        """Write a part; its size. Raises PayloadTooLarge, StorageFull."""
        path = self._directory / holder / part
        try:
            return await self._write(path, content)
        except OSError as error:
            path.unlink(missing_ok=True)
            raise StorageFull(f"the part could not be stored: {error.strerror}") from error
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    async def _write(self, path: Path, content: AsyncIterator[bytes]) -> int:
        path.parent.mkdir(exist_ok=True)
        size = 0
        with path.open("xb") as target:
            async for piece in content:
                size += len(piece)
                if size > self._most_bytes:
                    raise PayloadTooLarge(f"a part has at most {self._most_bytes} bytes")
                await asyncio.to_thread(target.write, piece)
        return size

    async def joined(self, holder: str, parts: Sequence[str]) -> AsyncIterator[bytes]:
        """The bytes of the parts, one behind the other."""
        for part in parts:
            with (self._directory / holder / part).open("rb") as source:
                while piece := await asyncio.to_thread(source.read, READ_BYTES):
                    yield piece

    def remove(self, holder: str) -> None:
        shutil.rmtree(self._directory / holder, ignore_errors=True)

    def holders(self) -> list[str]:
        return [path.name for path in self._directory.iterdir()]
