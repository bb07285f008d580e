"""The keys: made, shown once, checked, changed, ended. The one owner of `access/keys.db`.

A secret is `hearth_` + the key's public id + `_` + 256 random bits, so one SHA-256 is as good a hash as a
slow one, and digests are compared in constant time. All keys are in memory too: a check reads no disk. Any
thread may call; changes are one at a time, durable when they return. Knows neither HTTP nor what runs on a
key's behalf.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from msgspec.structs import replace

from appliance.admin import KeyStatus
from appliance.errors import Conflict, InvalidValue, NotAuthenticated, NotFound
from appliance.principal import LOCAL_OWNER, Grant, Principal
from appliance.store import keys as rows
from appliance.store.database import Database
from appliance.store.key_migrations import KEY_MIGRATIONS
from appliance.store.keys import Key
from appliance.store.lock import DirectoryLock
from appliance.store.migrations import migrate

MOST_KEYS = 10_000
LONGEST_SECRET = 200
ID_LETTERS = "abcdefghijkmnpqrstuvwxyz23456789"
ID_LENGTH = 10
SECRET = re.compile(rf"\Ahearth_([{ID_LETTERS}]{{{ID_LENGTH}}})_[A-Za-z0-9_-]{{43}}\Z")
NAME = re.compile(r"\A[A-Za-z0-9][A-Za-z0-9._@ -]{0,63}\Z")
_NOBODY = bytes(32)  # what an unknown key's secret is compared with

State = Literal["active", "expired", "revoked"]


def is_key(credential: str) -> bool:
    return credential.startswith("key_")


def state_of(key: Key, now: float) -> State:
    if key.revoked_at is not None:
        return "revoked"
    return "expired" if key.expires_at is not None and key.expires_at <= now else "active"


def prefix_of(key: Key) -> str:
    """How the key's secret begins: what a person may see of it."""
    return f"hearth_{key.id.removeprefix('key_')}_"


def key_status(key: Key, now: float) -> KeyStatus:
    """What an admin is told of the key."""
    return KeyStatus(
        id=key.id,
        name=key.name,
        prefix=prefix_of(key),
        state=state_of(key, now),
        owner=key.owner,
        grant=key.grant,
        created_at=key.created_at,
        expires_at=key.expires_at,
        revoked_at=key.revoked_at,
        last_used_at=key.last_used_at,
    )


def principal_of(key: Key) -> Principal:
    return Principal(key.owner, key.name, key.id, key.grant)


class Keyring:
    """Opens its directory at once; raises SetupError when another process has it. `close` at the end."""

    def __init__(self, directory: Path, clock: Callable[[], float] = time.time) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._clock = clock
        self._lock = DirectoryLock(directory)
        try:
            self._database = Database(
                directory / "keys.db", lambda connection: migrate(connection, KEY_MIGRATIONS)
            )
            self._keys = {key.id: key for key in self._database.read(rows.find_all)}
        except BaseException:
            self._lock.release()
            raise
        self._changing = threading.Lock()
        self._uses: dict[str, float] = {}

    def close(self) -> None:
        self.save_uses()
        self._database.close()
        self._lock.release()

    @property
    def has_keys(self) -> bool:
        """Whether there ever was a key: from the first one on, nobody comes in without."""
        return bool(self._keys)

    def authenticate(self, secret: str) -> Principal:
        """Whose secret it is. Raises NotAuthenticated."""
        found = SECRET.match(secret) if len(secret) <= LONGEST_SECRET else None
        key = self._keys.get(f"key_{found[1]}") if found else None
        digest = _digest(secret)
        now = self._clock()
        is_right = hmac.compare_digest(digest, key.digest if key else _NOBODY)
        if key is not None and key.previous is not None and (key.previous_until or 0) > now:
            is_right |= hmac.compare_digest(digest, key.previous)
        if key is None or not is_right:
            raise NotAuthenticated("this key is not known here; `hearth keys list` shows those that are")
        self._require_active(key, now)
        self._uses[key.id] = now
        return principal_of(key)

    def principal(self, id: str) -> Principal:
        """On whose behalf the key's earlier requests go on. Raises NotAuthenticated when it has ended."""
        key = self._keys.get(id)
        if key is None:
            raise NotAuthenticated("the key that this was asked with is not known here any more")
        self._require_active(key, self._clock())
        return principal_of(key)

    def expires_at(self, id: str) -> float | None:
        key = self._keys.get(id)
        return key.expires_at if key else None

    def list(self) -> list[Key]:
        """Every key, revoked ones too, oldest first; with its latest use."""
        return [self._used(key) for key in self._keys.values()]

    def get(self, id: str) -> Key:
        """By its id or by the name of one that is not revoked. Raises NotFound."""
        return self._used(self._find(id))

    # Changes

    def create(
        self, name: str, grant: Grant, *, owner: str = "", expires_at: float | None = None
    ) -> tuple[Key, str]:
        """A new key and its secret, which is told this once.

        `owner`: whose data it works on; empty: this machine's own user for an admin, else the key itself.
        Raises InvalidValue, Conflict for a name that is taken or a first key that is no admin's.
        """
        with self._changing:
            self._check_name(name)
            now = self._clock()
            if not self._admins() and grant.role != "admin":
                raise Conflict(
                    "the first key must be an admin's, for from it on nobody comes in without a key: "
                    "`hearth keys create NAME --role admin`"
                )
            if len(self._keys) >= MOST_KEYS:
                raise Conflict(f"there are {MOST_KEYS} keys already, ended ones counted")
            if expires_at is not None and expires_at <= now:
                raise InvalidValue("the key would have expired already", param="expires_at")
            id = self._new_id()
            secret = _new_secret(id)
            key = Key(
                id=id,
                name=name,
                owner=owner or (LOCAL_OWNER if grant.role == "admin" else id),
                digest=_digest(secret),
                grant=grant,
                created_at=now,
                expires_at=expires_at,
            )
            return self._save(key), secret

    def update(
        self, id: str, *, name: str | None = None, grant: Grant | None = None, expires_at: float | None = -1
    ) -> Key:
        """Change what is given; `expires_at` None: never, -1: as it is. Raises NotFound, Conflict."""
        with self._changing:
            key = self._require_changeable(id)
            if name is not None and name != key.name:
                self._check_name(name)
                key = replace(key, name=name)
            if grant is not None:
                if grant.role != "admin":
                    self._keep_an_admin(key)
                key = replace(key, grant=grant)
            if expires_at is None or expires_at >= 0:
                key = replace(key, expires_at=expires_at)
            return self._save(key)

    def rotate(self, id: str, *, overlap: float = 0.0) -> tuple[Key, str]:
        """A new secret for the key; the old one ends at once, or after `overlap` seconds."""
        with self._changing:
            key = self._require_changeable(id)
            secret = _new_secret(key.id)
            until = self._clock() + overlap if overlap > 0 else None
            return self._save(
                replace(
                    key,
                    digest=_digest(secret),
                    previous=key.digest if until else None,
                    previous_until=until,
                )
            ), secret

    def revoke(self, id: str) -> Key:
        """End the key for good. Raises NotFound, Conflict for the last admin's key."""
        with self._changing:
            key = self._require_changeable(id)
            self._keep_an_admin(key)
            return self._save(replace(key, revoked_at=self._clock(), previous=None, previous_until=None))

    def save_uses(self) -> None:
        """Write down when keys were last used."""
        uses, self._uses = self._uses, {}
        if uses:
            with self._changing:
                self._keys |= {id: replace(self._keys[id], last_used_at=time) for id, time in uses.items()}
                self._database.write(lambda connection: rows.note_uses(connection, uses)).result()

    # How

    def _used(self, key: Key) -> Key:
        used = self._uses.get(key.id)
        return key if used is None else replace(key, last_used_at=used)

    def _find(self, id: str) -> Key:
        if id in self._keys:
            return self._keys[id]
        for key in self._keys.values():
            if key.name == id and key.revoked_at is None:
                return key
        raise NotFound(f"there is no key {id!r}; `hearth keys list` shows those that there are")

    def _require_changeable(self, id: str) -> Key:
        key = self._used(self._find(id))
        if key.revoked_at is not None:
            raise Conflict(f"the key {key.name!r} is revoked; make a new one")
        return key

    @staticmethod
    def _require_active(key: Key, now: float) -> None:
        state = state_of(key, now)
        if state != "active":
            raise NotAuthenticated(f"the key {key.name!r} is {state}", code=f"{state}_api_key")

    def _admins(self) -> set[str]:
        now = self._clock()
        return {
            key.id
            for key in self._keys.values()
            if key.grant.role == "admin" and state_of(key, now) == "active"
        }

    def _keep_an_admin(self, key: Key) -> None:
        if self._admins() == {key.id}:
            raise Conflict(
                f"{key.name!r} is the only admin's key; make another first, or rotate this one if somebody "
                "else knows its secret"
            )

    def _check_name(self, name: str) -> None:
        if not NAME.match(name):
            raise InvalidValue(
                "a key's name has 1 to 64 letters, digits, spaces and . _ @ -, and begins with a letter or "
                "digit",
                param="name",
            )
        if any(key.name == name and key.revoked_at is None for key in self._keys.values()):
            raise Conflict(f"there is a key named {name!r} already", param="name")

    def _new_id(self) -> str:
        while True:
            id = "key_" + "".join(secrets.choice(ID_LETTERS) for _ in range(ID_LENGTH))
            if id not in self._keys:
                return id

    def _save(self, key: Key) -> Key:
        self._database.write(lambda connection: rows.save(connection, key)).result()
        self._keys = self._keys | {key.id: key}
        return key


def _new_secret(id: str) -> str:
    return f"hearth_{id.removeprefix('key_')}_{secrets.token_urlsafe(32)}"


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
