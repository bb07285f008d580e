"""The tables, as numbered steps from nothing to now. A step that has been released is never changed.

`PRAGMA user_version` counts the steps that a file has taken. Each step is one transaction.

What is kept: a base points at its current edition; an edition is all chunks of a base under one embedder.
An edition's vectors lie beside each other per document (`vectors.data`: float32, little endian, row-major),
for chunk ids that follow each other from `first_chunk`. `generation` grows with every change of an edition's
chunks; `buried` names chunks that an older graph file may still hold.
"""

from __future__ import annotations

from collections.abc import Sequence

from appliance.errors import SetupError
from appliance.store.database import Connection

MIGRATIONS = (
    """
    CREATE TABLE files(
        id TEXT PRIMARY KEY,
        owner TEXT NOT NULL,
        name TEXT NOT NULL,
        purpose TEXT NOT NULL,
        bytes INTEGER NOT NULL,
        sha256 TEXT NOT NULL,
        created_at REAL NOT NULL,
        expires_at REAL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX files_by_age ON files(owner, created_at, id);

    CREATE TABLE bases(
        id TEXT PRIMARY KEY,
        owner TEXT NOT NULL,
        name TEXT NOT NULL,
        description TEXT NOT NULL,
        metadata TEXT NOT NULL,
        created_at REAL NOT NULL,
        active_at REAL NOT NULL,
        expires_days INTEGER,
        chunk_tokens INTEGER NOT NULL,
        overlap_tokens INTEGER NOT NULL,
        edition INTEGER
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX bases_by_age ON bases(owner, created_at, id);
    CREATE INDEX bases_by_name ON bases(name);

    CREATE TABLE readers(
        base TEXT NOT NULL REFERENCES bases(id) ON DELETE CASCADE,
        principal TEXT NOT NULL,
        PRIMARY KEY(base, principal)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE editions(
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        base TEXT NOT NULL REFERENCES bases(id) ON DELETE CASCADE,
        embedder TEXT NOT NULL,
        fingerprint TEXT NOT NULL,
        dimensions INTEGER NOT NULL,
        generation INTEGER NOT NULL DEFAULT 0,
        graph_generation INTEGER NOT NULL DEFAULT 0,
        graph_digest TEXT NOT NULL DEFAULT '',
        created_at REAL NOT NULL
    ) STRICT;
    CREATE INDEX editions_by_base ON editions(base);

    CREATE TABLE documents(
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        base TEXT NOT NULL REFERENCES bases(id) ON DELETE CASCADE,
        file TEXT NOT NULL REFERENCES files(id) ON DELETE CASCADE,
        batch TEXT NOT NULL DEFAULT '',
        status TEXT NOT NULL,
        error_code TEXT NOT NULL DEFAULT '',
        error_message TEXT NOT NULL DEFAULT '',
        attributes TEXT NOT NULL DEFAULT '{}',
        chunk_tokens INTEGER NOT NULL,
        overlap_tokens INTEGER NOT NULL,
        text_bytes INTEGER NOT NULL DEFAULT 0,
        created_at REAL NOT NULL,
        UNIQUE(base, file)
    ) STRICT;
    CREATE INDEX documents_by_status ON documents(status, id);
    CREATE INDEX documents_by_batch ON documents(batch) WHERE batch <> '';
    CREATE INDEX documents_by_file ON documents(file);

    CREATE TABLE batches(
        id TEXT PRIMARY KEY,
        base TEXT NOT NULL REFERENCES bases(id) ON DELETE CASCADE,
        created_at REAL NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE texts(
        document INTEGER PRIMARY KEY REFERENCES documents(id) ON DELETE CASCADE,
        text TEXT NOT NULL,
        marks BLOB NOT NULL
    ) STRICT;

    CREATE TABLE chunks(
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        edition INTEGER NOT NULL,
        document INTEGER NOT NULL,
        begins INTEGER NOT NULL,
        ends INTEGER NOT NULL,
        page INTEGER NOT NULL,
        heading TEXT NOT NULL,
        text TEXT NOT NULL
    ) STRICT;
    CREATE INDEX chunks_by_document ON chunks(document, edition, id);

    CREATE TABLE vectors(
        edition INTEGER NOT NULL,
        document INTEGER NOT NULL,
        first_chunk INTEGER NOT NULL,
        count INTEGER NOT NULL,
        born INTEGER NOT NULL,
        data BLOB NOT NULL,
        PRIMARY KEY(edition, document)
    ) STRICT;
    CREATE INDEX vectors_by_birth ON vectors(edition, born);

    CREATE TABLE buried(
        edition INTEGER NOT NULL,
        first_chunk INTEGER NOT NULL,
        count INTEGER NOT NULL,
        died INTEGER NOT NULL,
        PRIMARY KEY(edition, died, first_chunk)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE folders(
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        base TEXT NOT NULL REFERENCES bases(id) ON DELETE CASCADE,
        path TEXT NOT NULL,
        created_at REAL NOT NULL,
        UNIQUE(base, path)
    ) STRICT;

    CREATE TABLE folder_files(
        folder INTEGER NOT NULL REFERENCES folders(id) ON DELETE CASCADE,
        path TEXT NOT NULL,
        sha256 TEXT NOT NULL,
        file TEXT NOT NULL,
        problem TEXT NOT NULL DEFAULT '',
        PRIMARY KEY(folder, path)
    ) STRICT, WITHOUT ROWID;
    """,
    """
    ALTER TABLE documents ADD COLUMN replaces TEXT NOT NULL DEFAULT '';
    """,
)


def migrate(connection: Connection, steps: Sequence[str] = MIGRATIONS) -> None:
    """Take the steps that are missing. Raises SetupError for a file that a newer Hearth has made."""
    version = connection.pragma("user_version")
    assert isinstance(version, int)
    if version > len(steps):
        raise SetupError(
            f"{connection.filename} was made by a newer Hearth (its version is {version}, this one knows up"
            f" to {len(steps)}); use that newer one"
        )
    for number in range(version, len(steps)):
        connection.execute("BEGIN IMMEDIATE")
        try:
            connection.execute(steps[number])
            connection.pragma("user_version", number + 1)
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
