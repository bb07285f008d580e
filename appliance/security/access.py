"""Who a request comes from, whatever it shows: one door for every credential, and one way to end them.

Whoever runs something on a principal's behalf holds it in `running`; when the credential ends, is changed or
expires, what runs is told at once. Belongs to the event loop; knows no HTTP.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from appliance.errors import NotAuthenticated
from appliance.principal import LOCAL, Grant, Principal
from appliance.security.keyring import Keyring
from appliance.security.running import Running
from appliance.store.keys import Key

SAVE_SECONDS = 60.0


class Access:
    """`start` in a loop, `stop` at the end. Raises what `Keyring` raises."""

    def __init__(self, directory: Path) -> None:
        self.keyring = Keyring(directory)
        self.running = Running()
        self._saver: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._saver = asyncio.create_task(self._save())

    async def stop(self) -> None:
        if self._saver is not None:
            self._saver.cancel()
            await asyncio.gather(self._saver, return_exceptions=True)
        await asyncio.to_thread(self.keyring.close)

    @property
    def needs_credential(self) -> bool:
        return self.keyring.has_keys

    def authenticate(self, secret: str | None) -> Principal:
        """Raises NotAuthenticated. Without any key, whoever reaches the server is this machine's own user."""
        if not self.needs_credential:
            return LOCAL
        if not secret:
            raise NotAuthenticated(
                "this server asks for a key: send it as `Authorization: Bearer KEY`, or set HEARTH_API_KEY",
                code="missing_api_key",
            )
        return self.keyring.authenticate(secret)

    def expires_at(self, principal: Principal) -> float | None:
        """When the principal's credential ends by itself."""
        return self.keyring.expires_at(principal.credential)

    # Changes of keys; each ends what runs with what has ended

    async def create(
        self, name: str, grant: Grant, *, owner: str = "", expires_at: float | None = None
    ) -> tuple[Key, str]:
        return await asyncio.to_thread(self.keyring.create, name, grant, owner=owner, expires_at=expires_at)

    async def update(
        self, id: str, *, name: str | None = None, grant: Grant | None = None, expires_at: float | None = -1
    ) -> Key:
        before = self.keyring.get(id)
        key = await asyncio.to_thread(
            self.keyring.update, before.id, name=name, grant=grant, expires_at=expires_at
        )
        if key.grant != before.grant:
            self.running.end(key.id, f"what the key {key.name!r} may do was changed")
        self.running.expire(key.id, key.expires_at)
        return key

    async def rotate(self, id: str, overlap: float) -> tuple[Key, str]:
        key, secret = await asyncio.to_thread(self.keyring.rotate, id, overlap=overlap)
        if not overlap:
            self.running.end(key.id, f"the secret of the key {key.name!r} was replaced")
        return key, secret

    async def revoke(self, id: str) -> Key:
        key = await asyncio.to_thread(self.keyring.revoke, id)
        self.running.end(key.id, f"the key {key.name!r} was revoked")
        return key

    async def _save(self) -> None:
        while True:
            await asyncio.sleep(SAVE_SECONDS)
            await asyncio.to_thread(self.keyring.save_uses)
