"""The tables of the archive, as numbered steps; see `migrations` for the rules.

An object is something that a client asked to have kept: a response, a conversation, a stored chat, a batch,
an upload. `body` is what the client gets of it, JSON as the surface wrote it. Its items (a conversation's
turns, a batch's lines) are JSON too, in their order; `side` tells which of an object's lists an item is in.
"""

from __future__ import annotations

ARCHIVE_MIGRATIONS = (
    """
    CREATE TABLE objects(
        id TEXT PRIMARY KEY,
        owner TEXT NOT NULL,
        kind TEXT NOT NULL,
        state TEXT NOT NULL,
        model TEXT NOT NULL,
        metadata TEXT NOT NULL,
        created_at REAL NOT NULL,
        expires_at REAL,
        body BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX objects_by_age ON objects(owner, kind, created_at, id);
    CREATE INDEX objects_by_state ON objects(kind, state, created_at);
    CREATE INDEX objects_by_expiry ON objects(expires_at) WHERE expires_at IS NOT NULL;

    CREATE TABLE items(
        holder TEXT NOT NULL REFERENCES objects(id) ON DELETE CASCADE,
        place INTEGER NOT NULL,
        side TEXT NOT NULL,
        id TEXT NOT NULL,
        body BLOB NOT NULL,
        PRIMARY KEY(holder, place)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX items_by_id ON items(id, holder);
    """,
    """
    ALTER TABLE objects ADD COLUMN principal TEXT NOT NULL DEFAULT '';
    """,
)
