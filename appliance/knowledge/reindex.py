"""A base's chunks and vectors made anew beside the old ones, and put in their place in one transaction.

Searches and new documents go to the old edition until the swap; documents that came meanwhile are made anew
as well before it happens. Ended in the middle, nothing has changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

from appliance.errors import InternalError, InvalidRequest
from appliance.knowledge.embedding import ServedEmbedder
from appliance.knowledge.extract.messages import Refusal
from appliance.knowledge.ingest import TOGETHER_BYTES, Embedded, Ingest
from appliance.knowledge.transactions import read, write
from appliance.store import bases, documents, editions
from appliance.store.database import Connection, Database
from appliance.store.indexes import Indexes
from appliance.store.rows import Base, Document

AT_ONCE = 64


class Reindex:
    def __init__(self, database: Database, indexes: Indexes, ingest: Ingest) -> None:
        self._database, self._indexes, self._ingest = database, indexes, ingest
        self._running: set[str] = set()

    async def run(self, base: Base, served: ServedEmbedder) -> int:
        """How many documents were made anew. Raises InvalidRequest when this base is at it already."""
        if base.id in self._running:
            raise InvalidRequest(
                f"{base.name!r} is being made anew already", param="vector_store_id", code="reindex_running"
            )
        self._running.add(base.id)
        edition = await write(
            self._database,
            lambda connection: editions.add(
                connection, base.id, served.model.name, served.fingerprint, served.model.dimensions
            ),
        )
        try:
            count = await self._fill(base, served, edition)
        except BaseException:
            await write(self._database, lambda connection: editions.remove(connection, edition))
            raise
        finally:
            self._running.discard(base.id)
        await asyncio.to_thread(self._indexes.forget, base.edition.id)
        return count

    async def _fill(self, base: Base, served: ServedEmbedder, edition: int) -> int:
        count = 0
        while not await write(self._database, lambda connection: _swap(connection, base, edition)):
            missing = await read(
                self._database,
                lambda connection: [
                    documents.find(connection, id)
                    for id in editions.missing_documents(connection, base.id, edition, AT_ONCE)
                ],
            )
            for together in _groups([document for document in missing if document is not None]):
                await self._redo(together, served, edition)
                count += len(together)
        return count

    async def _redo(self, together: Sequence[Document], served: ServedEmbedder, edition: int) -> None:
        texts = await read(
            self._database,
            lambda connection: [documents.text(connection, document.id) for document in together],
        )
        jobs = [
            self._ingest.job(document, served, *text) for document, text in zip(together, texts, strict=True)
        ]
        made: list[tuple[int, Embedded]] = []
        for document, result in zip(together, await self._ingest.prepare(served, jobs), strict=True):
            if isinstance(result, Refusal):
                raise InternalError(f"{document.name} could not be made anew: {result.message}")
            made.append((document.id, result))

        def work(connection: Connection) -> None:
            for id, (chunks, vectors) in made:
                if documents.find(connection, id) is not None:
                    editions.add_chunks(connection, edition, id, chunks, vectors)

        await write(self._database, work)


def _groups(found: Sequence[Document]) -> Iterator[list[Document]]:
    """Those that are small enough to be made anew together."""
    group: list[Document] = []
    for document in found:
        if group and sum(each.text_bytes for each in group) + document.text_bytes > TOGETHER_BYTES:
            yield group
            group = []
        group.append(document)
    if group:
        yield group


def _swap(connection: Connection, base: Base, edition: int) -> bool:
    """Put the new edition in the old one's place if no document is missing in it."""
    if editions.missing_documents(connection, base.id, edition, 1):
        return False
    old = bases.edition_of(connection, base.id).id
    bases.set_edition(connection, base.id, edition)
    editions.remove(connection, old)
    return True
