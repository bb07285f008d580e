"""The rows of keys: who may come in with which secret, of which only a digest is known."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec import Struct

from appliance.principal import Grant
from appliance.store.database import Connection


class Key(Struct, frozen=True, kw_only=True):
    """Times are Unix seconds. `digest`: SHA-256 of the secret; `previous`: of the one before it, which is
    good until `previous_until`."""

    id: str
    name: str
    owner: str
    digest: bytes
    previous: bytes | None = None
    previous_until: float | None = None
    grant: Grant
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None
    last_used_at: float | None = None


SELECT = """
SELECT id, name, owner, digest, previous, previous_until, grant_json, created_at, expires_at, revoked_at,
       last_used_at
FROM keys ORDER BY created_at, id
"""
UPSERT = """
INSERT INTO keys(id, name, owner, digest, previous, previous_until, grant_json, created_at, expires_at,
                 revoked_at, last_used_at) VALUES(?,?,?,?,?,?,?,?,?,?,?)
ON CONFLICT(id) DO UPDATE SET name = excluded.name, owner = excluded.owner, digest = excluded.digest,
  previous = excluded.previous, previous_until = excluded.previous_until, grant_json = excluded.grant_json,
  expires_at = excluded.expires_at, revoked_at = excluded.revoked_at, last_used_at = excluded.last_used_at
"""


def find_all(connection: Connection) -> list[Key]:
    """Every key that there ever was, oldest first."""
    return [_key(row) for row in connection.execute(SELECT)]


def save(connection: Connection, key: Key) -> None:
    """Insert the key, or replace the one of its id."""
    connection.execute(
        UPSERT,
        (
            key.id,
            key.name,
            key.owner,
            key.digest,
            key.previous,
            key.previous_until,
            msgspec.json.encode(key.grant).decode(),
            key.created_at,
            key.expires_at,
            key.revoked_at,
            key.last_used_at,
        ),
    )


def note_uses(connection: Connection, uses: Mapping[str, float]) -> None:
    """When each key was last used."""
    connection.executemany(
        "UPDATE keys SET last_used_at = ? WHERE id = ?", [(time, id) for id, time in uses.items()]
    )


def _key(row: tuple[object, ...]) -> Key:
    fields = dict(zip(Key.__struct_fields__, row, strict=True))
    fields["grant"] = msgspec.json.decode(str(fields["grant"]), type=Grant)
    return Key(**fields)  # type: ignore[arg-type]
