"""Knowledge bases on somebody's behalf: making, finding, changing, sharing and removing them.

What a principal may do is decided in `store`, inside the query itself. Knows nothing of what is in a base.
"""

from __future__ import annotations

import asyncio
import secrets
import time

import msgspec

from appliance.config.schema import Knowledge as Settings
from appliance.errors import Forbidden, InvalidValue
from appliance.knowledge.embedding import Embedding
from appliance.knowledge.folders import Folders
from appliance.knowledge.transactions import read, write
from appliance.knowledge.views import BaseStatus, Chunking
from appliance.principal import Principal
from appliance.store import bases, documents, editions
from appliance.store.database import Connection, Database
from appliance.store.indexes import Indexes
from appliance.store.rows import Base, Edition, Page

RESERVED_TOKENS = 64  # of the embedder's limit: special tokens, prefix and headings


class Bases:
    def __init__(
        self,
        database: Database,
        indexes: Indexes,
        embedding: Embedding,
        folders: Folders,
        settings: Settings,
    ) -> None:
        self._database, self._indexes, self._embedding = database, indexes, embedding
        self._folders, self._settings = folders, settings

    async def create(
        self,
        principal: Principal,
        name: str,
        *,
        description: str = "",
        metadata: dict[str, str] | None = None,
        expires_days: int | None = None,
        chunking: Chunking | None = None,
        embedder: str | None = None,
        unique: bool = False,
    ) -> Base:
        """Raises ModelNotFound or Unavailable without a fitting embedder, InvalidValue for a taken name."""
        chosen = embedder or self._settings.embedder
        served = self._embedding.get(chosen) if chosen else self._embedding.default()
        sizes = chunking or self.default_chunking
        id, now = f"vs_{secrets.token_hex(12)}", time.time()
        nothing = Edition(
            id=0,
            base=id,
            embedder=served.model.name,
            fingerprint=served.fingerprint,
            dimensions=served.model.dimensions,
            generation=0,
            graph_generation=0,
            graph_digest="",
        )
        base = Base(
            id=id,
            owner=principal.id,
            name=name,
            description=description,
            metadata=metadata or {},
            created_at=now,
            active_at=now,
            expires_days=expires_days,
            chunk_tokens=sizes.tokens,
            overlap_tokens=sizes.overlap,
            edition=nothing,
        )

        if not principal.may_use_base(id, name):
            raise Forbidden(f"{principal.name!r} may not have a knowledge base called {name!r}", param="name")

        def work(connection: Connection) -> Base:
            if unique and bases.is_name_taken(connection, principal, name):
                raise InvalidValue(f"there is a knowledge base {name!r} already", param="name")
            bases.add(connection, base)
            edition = editions.add(connection, id, nothing.embedder, nothing.fingerprint, nothing.dimensions)
            bases.set_edition(connection, id, edition)
            return msgspec.structs.replace(base, edition=editions.get(connection, edition))

        return await write(self._database, work)

    @property
    def default_chunking(self) -> Chunking:
        return Chunking(self._settings.chunk_tokens, self._settings.overlap_tokens)

    def most_chunk_tokens(self, base: Base | None = None) -> int:
        """The longest chunk that the base's embedder takes with room for its headings."""
        served = self._embedding.find(base.edition.fingerprint) if base else None
        chosen = served or self._embedding.default()
        return chosen.model.max_tokens - RESERVED_TOKENS

    async def status(self, principal: Principal, id: str) -> BaseStatus:
        return await read(
            self._database, lambda connection: _status(connection, bases.get(connection, principal, id))
        )

    async def find(self, principal: Principal, name: str) -> Base:
        """By name or id. Raises NotFound, or InvalidValue when several have the name."""
        return await read(self._database, lambda connection: bases.find(connection, principal, name))

    async def list(self, principal: Principal, page: Page) -> tuple[list[BaseStatus], bool]:
        """A page of them, and whether there are more."""

        def work(connection: Connection) -> tuple[list[BaseStatus], bool]:
            found, has_more = bases.find_page(connection, principal, page)
            return [_status(connection, base) for base in found], has_more

        return await read(self._database, work)

    async def update(
        self,
        principal: Principal,
        id: str,
        *,
        name: str | None = None,
        metadata: dict[str, str] | None = None,
        expires_days: int | None = None,
        keeps_expiry: bool = True,
    ) -> BaseStatus:
        """Change what is given; `keeps_expiry=False` sets `expires_days`, None included."""

        def work(connection: Connection) -> BaseStatus:
            base = bases.get_owned(connection, principal, id)
            if name is not None and not principal.may_use_base(id, name):
                raise Forbidden(f"{principal.name!r} may not call it {name!r}", param="name")
            bases.update(
                connection,
                base.id,
                name=name,
                metadata=metadata,
                expires_days=expires_days,
                keeps_expiry=keeps_expiry,
            )
            return _status(connection, bases.get(connection, principal, id))

        return await write(self._database, work)

    async def share(self, principal: Principal, id: str, readers: tuple[str, ...]) -> None:
        """Who else may read the base; `*` is everyone."""

        def work(connection: Connection) -> None:
            bases.set_readers(connection, bases.get_owned(connection, principal, id).id, readers)

        await write(self._database, work)

    async def readers(self, principal: Principal, id: str) -> tuple[str, ...]:
        """Whom the base is shared with. Raises NotFound, Forbidden."""

        def work(connection: Connection) -> tuple[str, ...]:
            return bases.readers_of(connection, bases.get_owned(connection, principal, id).id)

        return await read(self._database, work)

    async def remove(self, principal: Principal, id: str) -> None:
        """The files stay: they belong to whoever uploaded them."""

        def work(connection: Connection) -> list[int]:
            base = bases.get_owned(connection, principal, id)
            gone = editions.of_base(connection, base.id)
            for edition in gone:
                editions.remove(connection, edition)
            bases.remove(connection, base.id)
            return gone

        await self._folders.end_all(principal, id)
        for edition in await write(self._database, work):
            await asyncio.to_thread(self._indexes.forget, edition)


def _status(connection: Connection, base: Base) -> BaseStatus:
    return BaseStatus(base, documents.counts(connection, base.id), bases.usage_bytes(connection, base.id))
