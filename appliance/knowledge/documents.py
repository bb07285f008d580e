"""Documents on somebody's behalf: putting files into a base, what became of them, and taking them out."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Sequence

from appliance.errors import Overloaded
from appliance.knowledge.ingest import Ingest
from appliance.knowledge.transactions import read, write
from appliance.knowledge.views import Chunking, NewDocument
from appliance.principal import Principal
from appliance.store import bases, documents, files
from appliance.store.database import Connection, Database
from appliance.store.rows import Attributes, Batch, Counts, Document, Page


class Documents:
    def __init__(self, database: Database, ingest: Ingest, most_waiting: int) -> None:
        self._database, self._ingest, self._most_waiting = database, ingest, most_waiting

    async def add(
        self, principal: Principal, base: str, new: Sequence[NewDocument], *, batch: bool = False
    ) -> tuple[list[Document], Batch | None]:
        """Queue files for a base; durable when this returns. Raises NotFound, InvalidValue, Overloaded."""
        now = time.time()

        def work(connection: Connection) -> tuple[list[Document], Batch | None]:
            bases.get_owned(connection, principal, base)
            made = Batch(id=f"vsfb_{secrets.token_hex(12)}", base=base, created_at=now) if batch else None
            if made is not None:
                documents.add_batch(connection, made)
            return self.queue(connection, principal, base, new, made), made

        result = await write(self._database, work)
        self._ingest.wake()
        return result

    def queue(
        self,
        connection: Connection,
        principal: Principal,
        base: str,
        new: Sequence[NewDocument],
        batch: Batch | None = None,
    ) -> list[Document]:
        """The same within a transaction; `wake` is due after it."""
        if documents.count_waiting(connection) + len(new) > self._most_waiting:
            raise Overloaded(f"{self._most_waiting} documents are waiting to be read already", retry_after=10)
        owned = bases.get_owned(connection, principal, base)
        added = []
        now = batch.created_at if batch else time.time()
        for place, item in enumerate(new):
            file = files.get(connection, principal, item.file)
            sizes = item.chunking or Chunking(owned.chunk_tokens, owned.overlap_tokens)
            documents.add(
                connection,
                base=base,
                file=file.id,
                batch=batch.id if batch else "",
                replaces=_replaced(connection, base, item.replaces),
                attributes=item.attributes,
                chunk_tokens=sizes.tokens,
                overlap_tokens=sizes.overlap,
                created_at=now + place * 1e-6,  # so that a list by age keeps the order given
            )
            added.append(documents.get(connection, base, file.id))
        bases.touch(connection, base)
        return added

    def wake(self) -> None:
        """There are new documents."""
        self._ingest.wake()

    async def get(self, principal: Principal, base: str, file: str) -> Document:
        return await read(
            self._database,
            lambda connection: documents.get(connection, bases.get(connection, principal, base).id, file),
        )

    async def list(
        self, principal: Principal, base: str, page: Page, *, status: str = "", batch: str = ""
    ) -> tuple[list[Document], bool]:
        """A page of them, of one status or batch if asked, and whether there are more."""

        def work(connection: Connection) -> tuple[list[Document], bool]:
            bases.get(connection, principal, base)
            if batch:
                documents.get_batch(connection, base, batch)
            return documents.find_page(connection, base, page, status=status, batch=batch)

        return await read(self._database, work)

    async def text(self, principal: Principal, base: str, file: str) -> tuple[Document, str]:
        """The text that was read out of the document."""

        def work(connection: Connection) -> tuple[Document, str]:
            found = documents.get(connection, bases.get(connection, principal, base).id, file)
            return found, documents.text(connection, found.id)[0]

        return await read(self._database, work)

    async def set_attributes(
        self, principal: Principal, base: str, file: str, attributes: Attributes
    ) -> Document:
        def work(connection: Connection) -> Document:
            found = documents.get(connection, bases.get_owned(connection, principal, base).id, file)
            documents.set_attributes(connection, found.id, attributes)
            return documents.get(connection, base, file)

        return await write(self._database, work)

    async def remove(self, principal: Principal, base: str, file: str) -> None:
        """Take a file out of a base; the file itself stays."""

        def work(connection: Connection) -> None:
            found = documents.get(connection, bases.get_owned(connection, principal, base).id, file)
            documents.drop(connection, found)

        await write(self._database, work)

    async def wait_until_read(self, principal: Principal, base: str) -> Counts:
        """Until no document of the base is in progress."""

        def work(connection: Connection) -> Counts:
            return documents.counts(connection, bases.get(connection, principal, base).id)

        while True:
            found = await read(self._database, work)
            if found.in_progress == 0:
                return found
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ingest.wait_for_some(), 1.0)

    # Batches

    async def batch(self, principal: Principal, base: str, id: str) -> tuple[Batch, Counts]:
        def work(connection: Connection) -> tuple[Batch, Counts]:
            found = documents.get_batch(connection, bases.get(connection, principal, base).id, id)
            return found, documents.counts(connection, base, id)

        return await read(self._database, work)

    async def cancel_batch(self, principal: Principal, base: str, id: str) -> tuple[Batch, Counts]:
        """End what has not been read yet."""

        def work(connection: Connection) -> tuple[Batch, Counts]:
            found = documents.get_batch(connection, bases.get_owned(connection, principal, base).id, id)
            documents.cancel_batch(connection, id)
            return found, documents.counts(connection, base, id)

        return await write(self._database, work)


def _replaced(connection: Connection, base: str, file: str) -> str:
    """What the new document really takes the place of: one that was never read goes at once, and what it
    was to replace becomes the new one's to replace."""
    old = documents.find_file(connection, base, file) if file else None
    if old is None or old.status != "in_progress":
        return file
    documents.set_replaces(connection, old.id, "")
    files.drop(connection, file)
    return old.replaces
