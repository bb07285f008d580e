"""TLS for those who connect: TLS 1.2 or newer, from files that may change while the server runs.

A new pair of files is tried in a context of its own first; what does not fit leaves the old one in force.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from pathlib import Path

from watchfiles import awatch

from appliance.config.access import Tls
from appliance.errors import ConfigError

log = logging.getLogger("hearth.security")

DEBOUNCE_MS = 200


def _no_password() -> str:
    raise ConfigError("it needs a password; give one without")


def context_of(settings: Tls) -> ssl.SSLContext:
    """Raises ConfigError naming the file that does not fit."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols(["http/1.1"])
    _load_pair(context, settings)
    if settings.client_ca:
        try:
            context.load_verify_locations(Path(settings.client_ca).expanduser())
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"tls.client_ca = {settings.client_ca!r} holds no certificates to be read: {_words(error)}"
            ) from error
        context.verify_mode = ssl.CERT_REQUIRED if settings.clients == "required" else ssl.CERT_OPTIONAL
    return context


def _load_pair(context: ssl.SSLContext, settings: Tls) -> None:
    try:
        context.load_cert_chain(
            Path(settings.certificate).expanduser(), Path(settings.key).expanduser(), _no_password
        )
    except ConfigError as error:
        raise ConfigError(f"tls.key = {settings.key!r}: {error.message}") from error
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"tls.certificate = {settings.certificate!r} and tls.key = {settings.key!r} are no pair of PEM "
            f"files that can be used: {_words(error)}"
        ) from error


class Tending:
    """Keeps a context as its files are. `start` in a loop, `stop` at the end."""

    def __init__(self, settings: Tls, context: ssl.SSLContext) -> None:
        self._settings, self._context = settings, context
        self._watching: asyncio.Task[None] | None = None
        self._content = self._read()

    def start(self) -> None:
        self._watching = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watching

    def reload(self) -> None:
        """New connections see the files as they are. Raises ConfigError; then nothing changes."""
        context_of(self._settings)
        _load_pair(self._context, self._settings)

    async def _watch(self) -> None:
        folders = {file.absolute().parent for file in self._files()}
        async for _ in awatch(*folders, recursive=False, debounce=DEBOUNCE_MS, step=20):
            content = self._read()
            if content == self._content:
                continue  # another file of the folder
            self._content = content
            try:
                self.reload()
            except ConfigError as error:
                log.error("the certificate stays as it was: %s", error.message)
            else:
                log.info("the certificate was read again")

    def _files(self) -> tuple[Path, Path]:
        return Path(self._settings.certificate).expanduser(), Path(self._settings.key).expanduser()

    def _read(self) -> tuple[bytes, ...]:
        with contextlib.suppress(OSError):
            return tuple(file.read_bytes() for file in self._files())
        return ()  # one is being replaced


def _words(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or getattr(error, "reason", None) or error)
