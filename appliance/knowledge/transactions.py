"""The store's reads and writes, awaited: the event loop never waits for a disk itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from appliance.store.database import Connection, Database

Result = TypeVar("Result")


async def read(database: Database, work: Callable[[Connection], Result]) -> Result:
    """The result of `work` on one snapshot, on a thread."""
    return await asyncio.to_thread(database.read, work)


async def write(database: Database, work: Callable[[Connection], Result]) -> Result:
    """The result of `work` as one transaction, when it is on the disk."""
    return await asyncio.wrap_future(database.write(work))
