"""What clients ask to have kept: responses, conversations, chats, batches, uploads. One object in front of
the archive's database; every call is on somebody's behalf.

Bodies are JSON that this room never reads. Age and number are bounded: answers go when they are old or too
many, the oldest first; what clients build up themselves (conversations) is refused beyond its limit.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from appliance.config.schema import Archive as Settings
from appliance.errors import InvalidRequest
from appliance.principal import Principal
from appliance.store import objects
from appliance.store.archive_migrations import ARCHIVE_MIGRATIONS
from appliance.store.database import Connection, Database
from appliance.store.lock import DirectoryLock
from appliance.store.migrations import migrate
from appliance.store.objects import Kept, KeptItem
from appliance.store.rows import Page

Result = TypeVar("Result")

DAY = 86_400.0
SWEEP_SECONDS = 60.0
SWEEP_AFTER = 256  # objects kept since the last sweep
AGEING = ("response", "chat.completion")  # kinds that go when they are old or too many
MOST_ITEMS = 4096  # of one object that are read at once


class Archive:
    """Opens its directory at once; raises SetupError when another process has it. `start` in a loop."""

    def __init__(self, directory: Path, settings: Settings) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = DirectoryLock(directory)
        self._settings = settings
        self.directory = directory
        self._database = Database(
            directory / "archive.db", lambda connection: migrate(connection, ARCHIVE_MIGRATIONS)
        )
        self._kept_since_sweep = 0
        self._sweeper: asyncio.Task[None] | None = None
        self._is_due = asyncio.Event()

    # Life

    def start(self) -> None:
        self._sweeper = asyncio.create_task(self._sweep())

    async def stop(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        self._database.close()
        self._lock.release()

    # Objects

    def new(
        self,
        principal: Principal,
        kind: str,
        id: str,
        body: bytes,
        *,
        state: str = "",
        model: str = "",
        metadata: dict[str, str] | None = None,
        expires_at: float | None = None,
        goes_on: bool = False,
    ) -> Kept:
        """An object as it would be kept from now on: answers until they are too old. `goes_on`: work on it
        goes on without a request, on the principal's behalf."""
        now = time.time()
        if expires_at is None and kind in AGEING:
            expires_at = now + self._settings.days * DAY
        return Kept(
            id=id,
            owner=principal.id,
            kind=kind,
            state=state,
            model=model,
            metadata=metadata or {},
            created_at=now,
            expires_at=expires_at,
            body=body,
            principal=msgspec.json.encode(principal).decode() if goes_on else "",
        )

    async def keep(self, kept: Kept, items: Sequence[KeptItem] = ()) -> None:
        """Durable when this returns. Raises InvalidRequest beyond the limit of a kind that does not age."""
        principal = Principal(kept.owner)

        def work(connection: Connection) -> None:
            if kept.kind not in AGEING and (
                objects.count(connection, principal, kept.kind) >= self._settings.entries
            ):
                raise InvalidRequest(
                    f"there are {self._settings.entries} {kept.kind} objects already (archive.entries); "
                    "delete some of them first",
                    code="archive_full",
                )
            objects.add(connection, kept, items)

        await self._write(work)
        self._kept_since_sweep += 1
        if self._kept_since_sweep >= SWEEP_AFTER:
            self._is_due.set()

    async def get(self, principal: Principal, kind: str, id: str) -> Kept:
        """Raises NotFound."""
        return await self._read(lambda connection: objects.get(connection, principal, kind, id))

    async def find_page(
        self,
        principal: Principal,
        kind: str,
        page: Page,
        *,
        model: str = "",
        metadata: dict[str, str] | None = None,
    ) -> tuple[list[Kept], bool]:
        return await self._read(
            lambda connection: objects.find_page(
                connection, principal, kind, page, model=model, metadata=metadata
            )
        )

    async def in_state(self, kind: str, *states: str) -> list[Kept]:
        """Everybody's, for upkeep."""
        return await self._read(lambda connection: objects.in_state(connection, kind, states))

    async def change(
        self,
        principal: Principal,
        kind: str,
        id: str,
        body: Callable[[Kept], bytes],
        *,
        state: str | None = None,
        metadata: dict[str, str] | None = None,
    ) -> Kept:
        """Give the object the body made of its present one; returns it as it is then. Raises NotFound."""

        def work(connection: Connection) -> Kept:
            found = objects.get(connection, principal, kind, id)
            objects.update(
                connection,
                id,
                body=body(found),
                state=found.state if state is None else state,
                metadata=metadata,
            )
            return objects.get(connection, principal, kind, id)

        return await self._write(work)

    async def finish(self, id: str, body: bytes, state: str, items: Sequence[KeptItem] = ()) -> None:
        """The end of work that was kept while it ran. Does nothing when its object has been deleted."""

        def work(connection: Connection) -> None:
            if objects.exists(connection, id):
                objects.update(connection, id, body=body, state=state)
                objects.append(connection, id, items)

        await self._write(work)

    async def remove(self, principal: Principal, kind: str, id: str) -> None:
        """Raises NotFound."""

        def work(connection: Connection) -> None:
            objects.get(connection, principal, kind, id)
            objects.remove(connection, id)

        await self._write(work)

    # Items

    async def append(self, principal: Principal, kind: str, id: str, items: Sequence[KeptItem]) -> None:
        """Raises NotFound, InvalidRequest for more items than an object may have."""

        def work(connection: Connection) -> None:
            objects.get(connection, principal, kind, id)
            held = objects.count_items(connection, id)
            if held + len(items) > self._settings.items:
                raise InvalidRequest(
                    f"{id} has {held} items; at most {self._settings.items} are kept (archive.items)",
                    code="archive_full",
                )
            objects.append(connection, id, items)

        await self._write(work)

    async def items(self, principal: Principal, kind: str, id: str) -> list[KeptItem]:
        """The object's newest items, in order. Raises NotFound."""

        def work(connection: Connection) -> list[KeptItem]:
            objects.get(connection, principal, kind, id)
            return objects.items(connection, id, MOST_ITEMS)

        return await self._read(work)

    async def items_page(
        self, principal: Principal, kind: str, id: str, page: Page, side: str = ""
    ) -> tuple[list[KeptItem], bool]:
        """Raises NotFound, InvalidValue for a cursor that is not in the list."""

        def work(connection: Connection) -> tuple[list[KeptItem], bool]:
            objects.get(connection, principal, kind, id)
            return objects.items_page(connection, id, page, side)

        return await self._read(work)

    async def add_item(self, id: str, item: KeptItem) -> None:
        """For work of the server's own. Does nothing when the object has been deleted."""

        def work(connection: Connection) -> None:
            if objects.exists(connection, id):
                objects.append(connection, id, [item])

        await self._write(work)

    async def item_ids(self, id: str) -> set[str]:
        """Of all items, for work of the server's own."""
        return await self._read(lambda connection: objects.item_ids(connection, id))

    async def items_from(self, id: str, start: int, limit: int) -> list[KeptItem]:
        """The items from the place `start` on, for work of the server's own."""
        return await self._read(lambda connection: objects.items_from(connection, id, start, limit))

    async def item(self, principal: Principal, id: str, holder: str = "") -> KeptItem:
        """Raises NotFound."""
        return await self._read(lambda connection: objects.item(connection, principal, id, holder))

    async def remove_item(self, principal: Principal, kind: str, holder: str, id: str) -> Kept:
        """The object that has lost the item. Raises NotFound."""

        def work(connection: Connection) -> Kept:
            kept = objects.get(connection, principal, kind, holder)
            objects.item(connection, principal, id, holder)
            objects.remove_item(connection, holder, id)
            return kept

        return await self._write(work)

    # Upkeep

    async def sweep(self) -> None:
        """Remove what is too old, or too much."""

        def work(connection: Connection) -> None:
            objects.remove_expired(connection, time.time())
            for kind in AGEING:
                objects.remove_oldest(connection, kind, self._settings.entries)

        self._kept_since_sweep = 0
        await self._write(work)

    async def _sweep(self) -> None:
        while True:
            await self.sweep()
            self._is_due.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._is_due.wait(), SWEEP_SECONDS)

    async def _read(self, work: Callable[[Connection], Result]) -> Result:
        return await asyncio.to_thread(self._database.read, work)

    async def _write(self, work: Callable[[Connection], Result]) -> Result:
        return await asyncio.wrap_future(self._database.write(work))
