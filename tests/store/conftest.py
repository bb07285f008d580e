"""A real database in a temporary directory, and bases with made-up chunks in it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from appliance.principal import LOCAL
from appliance.store import bases, documents, editions, files
from appliance.store.database import Connection, Database
from appliance.store.migrations import migrate
from appliance.store.rows import Base, Chunk, Edition, StoredFile

DIMENSIONS = 8


class Shelf:
    """One base of made-up documents, and what is known to be in it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.database = Database(directory / "knowledge.db", migrate)
        self.base = "vs_test"
        self.random = np.random.default_rng(7)
        self.edition = self.database.write(self._create).result()
        self.count = 0

    def _create(self, connection: Connection) -> int:
        empty = Edition(
            id=0,
            base=self.base,
            embedder="",
            fingerprint="",
            dimensions=DIMENSIONS,
            generation=0,
            graph_generation=0,
            graph_digest="",
        )
        bases.add(
            connection,
            Base(
                id=self.base,
                owner=LOCAL.id,
                name="shelf",
                description="",
                metadata={},
                created_at=1.0,
                active_at=1.0,
                expires_days=None,
                chunk_tokens=200,
                overlap_tokens=20,
                edition=empty,
            ),
        )
        edition = editions.add(connection, self.base, "fake", "print", DIMENSIONS)
        bases.set_edition(connection, self.base, edition)
        return edition

    def vectors(self, count: int) -> NDArray[np.float32]:
        made = self.random.standard_normal((count, DIMENSIONS)).astype(np.float32)
        made /= np.linalg.norm(made, axis=1, keepdims=True)
        return made

    def put(self, chunks: int | list[str], vectors: NDArray[np.float32] | None = None) -> int:
        """Add a completed document; its id."""
        texts = chunks if isinstance(chunks, list) else [f"chunk {n} of {self.count}" for n in range(chunks)]
        self.count += 1
        file = StoredFile(
            id=f"file-{self.count}",
            owner=LOCAL.id,
            name=f"{self.count}.txt",
            purpose="assistants",
            bytes=1,
            sha256="",
            created_at=float(self.count),
            expires_at=None,
        )
        given = self.vectors(len(texts)) if vectors is None else vectors

        def work(connection: Connection) -> int:
            files.add(connection, file)
            document = documents.add(
                connection,
                base=self.base,
                file=file.id,
                attributes={},
                chunk_tokens=200,
                overlap_tokens=20,
                created_at=time.time(),
            )
            pieces = [Chunk(begins=0, ends=len(text), page=0, heading="", text=text) for text in texts]
            editions.add_chunks(connection, self.edition, document, pieces, given)
            documents.set_status(connection, document, "completed")
            return document

        return self.database.write(work).result()

    def take(self, document: int) -> None:
        def work(connection: Connection) -> None:
            found = documents.find(connection, document)
            assert found is not None
            documents.drop(connection, found)

        self.database.write(work).result()

    def truth(self) -> editions.Changes:
        """Every chunk that SQLite holds."""
        return self.database.read(
            lambda connection: editions.changes(connection, editions.get(connection, self.edition), 0)
        )


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    made = Shelf(tmp_path)
    yield made
    made.database.close()


@pytest.fixture
def make_shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Shelf]]:
    made: list[Shelf] = []

    def make() -> Shelf:
        made.append(Shelf(tmp_path_factory.mktemp("shelf")))
        return made[-1]

    yield make
    for each in made:
        each.database.close()
