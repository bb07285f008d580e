"""Who a request comes from, whatever it shows: one door for every credential, and one way to end them.

Whoever runs something on a principal's behalf holds it in `running`; when the credential ends, is changed or
expires, what runs is told at once. Belongs to the event loop; knows no HTTP.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from appliance.config.access import Access as Settings
from appliance.errors import NotAuthenticated
from appliance.principal import LOCAL, Grant, Principal
from appliance.security.admitted import Admitted
from appliance.security.keyring import Keyring, is_key
from appliance.security.names import Names
from appliance.security.rates import RateLimits
from appliance.security.running import Running
from appliance.store.keys import Key

if TYPE_CHECKING:
    from appliance.security.certificates import Certificates
    from appliance.security.tokens import Tokens

SAVE_SECONDS = 60.0


class Doors(NamedTuple):
    """What the settings of access come to. None: the settings name no issuer, no certificate."""

    settings: Settings
    tokens: Tokens | None
    certificates: Certificates | None
    names: Names


class Access:
    """`start` in a loop, `stop` at the end. `is_open`: other machines can reach the server, so that nobody
    comes in without a credential. Raises what `Keyring`, `Tokens` and `Certificates` raise.
    """

    def __init__(self, directory: Path, settings: Settings, *, is_open: bool = False) -> None:
        self._doors, self._is_open = self.prepared(settings), is_open
        self.rates = RateLimits()
        self.running = Running()
        self.keyring = Keyring(directory)
        self._saver: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._saver = asyncio.create_task(self._save())

    async def stop(self) -> None:
        if self._saver is not None:
            self._saver.cancel()
            await asyncio.gather(self._saver, return_exceptions=True)
        await asyncio.to_thread(self.keyring.close)

    @staticmethod
    def prepared(settings: Settings) -> Doors:
        """What `reload` takes. Raises ConfigError."""
        return Doors(
            settings,
            _tokens(settings),
            _certificates(settings),
            Names(settings.hosts, settings.origins),
        )

    def reload(self, doors: Doors) -> None:
        """Take new settings at once."""
        before, self._doors = self._doors.settings, doors
        after = doors.settings
        if (before.issuers, before.certificates) != (after.issuers, after.certificates):
            self.running.end_all(lambda credential: not is_key(credential), "the settings of access changed")

    @property
    def names(self) -> Names:
        return self._doors.names

    @property
    def settings(self) -> Settings:
        return self._doors.settings

    @property
    def has_credentials(self) -> bool:
        return self.keyring.has_keys or any((self._doors.tokens, self._doors.certificates))

    @property
    def needs_credential(self) -> bool:
        """From the first key, issuer or certificate on, nobody comes in without."""
        return self._is_open or self.settings.required or self.has_credentials

    def authenticate(self, secret: str | None, certificate: bytes | None = None) -> Admitted:
        """What is shown in the request counts before the connection's certificate. Raises NotAuthenticated.

        Where no credential is needed, whoever reaches the server is this machine's own user.
        """
        if not self.needs_credential:
            return Admitted(LOCAL, None)
        if secret:
            if secret.count(".") == 2 and self._doors.tokens:
                return self._doors.tokens.authenticate(secret)
            principal = self.keyring.authenticate(secret)
            return Admitted(principal, self.keyring.expires_at(principal.credential))
        if certificate is not None and self._doors.certificates:
            return self._doors.certificates.authenticate(certificate)
        raise NotAuthenticated(
            "this server asks for a key: send it as `Authorization: Bearer KEY`, or set HEARTH_API_KEY",
            code="missing_api_key",
        )

    def still(self, principal: Principal) -> Principal:
        """The principal whose work goes on without a request, as it is now. Raises NotAuthenticated when its
        key has ended, or the settings no longer know whose token or certificate began it.
        """
        if is_key(principal.credential):
            return self.keyring.principal(principal.credential)
        doors = (self._doors.tokens, self._doors.certificates)
        if principal.credential and not any(door.knows(principal) for door in doors if door is not None):
            raise NotAuthenticated(f"the settings know nobody called {principal.name!r} any more")
        return principal

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


# Imported here: PyJWT and X.509 cost every start 40 ms, and few servers have issuers or certificates.


def _tokens(settings: Settings) -> Tokens | None:
    if not settings.issuers:
        return None
    from appliance.security.tokens import Tokens

    return Tokens(settings.issuers)


def _certificates(settings: Settings) -> Certificates | None:
    if not settings.certificates:
        return None
    from appliance.security.certificates import Certificates

    return Certificates(settings.certificates)
