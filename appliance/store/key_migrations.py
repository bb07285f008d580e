"""The table of keys, as numbered steps; see `migrations` for the rules.

Only digests of secrets are kept. `previous` is the digest that a rotation replaced, good until
`previous_until`. `grant_json` is a `principal.Grant`. A revoked key stays: its id is never given anew.
"""

from __future__ import annotations

KEY_MIGRATIONS = (
    """
    CREATE TABLE keys(
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        owner TEXT NOT NULL,
        digest BLOB NOT NULL,
        previous BLOB,
        previous_until REAL,
        grant_json TEXT NOT NULL,
        created_at REAL NOT NULL,
        expires_at REAL,
        revoked_at REAL,
        last_used_at REAL
    ) STRICT, WITHOUT ROWID;
    CREATE UNIQUE INDEX keys_by_name ON keys(name) WHERE revoked_at IS NULL;
    """,
)
