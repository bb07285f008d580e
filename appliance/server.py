"""The gateway process as a whole: bind, serve, drain, exit.

Owns the listening socket, its TLS and uvicorn. A busy port is a SetupError before anything else is started.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import socket
import ssl
import sys
from collections.abc import Callable, Generator
from functools import partial
from typing import Any, cast

import uvicorn
from anyio.to_thread import current_default_thread_limiter

from appliance.api.app import build_app
from appliance.config.schema import Settings
from appliance.connection import Addresses, LimitedConnection
from appliance.errors import ConfigError, SetupError
from appliance.runtime import Runtime
from appliance.security.tls import Tending, context_of

log = logging.getLogger("hearth.server")

Listening = Callable[[], None]

BACKLOG = 2048
# Threads that read files for clients. Starlette would have 40, which wait for the interpreter's lock with the
# event loop among them; a few keep any disk busy.
FILE_READERS = 2
STARTUP_FAILURE = 3  # uvicorn's


def bind(settings: Settings) -> socket.socket:
    """The listening socket. Raises SetupError naming the port when it is taken or not allowed."""
    host, port = settings.host, settings.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise SetupError(
                f"port {port} on {host} is in use by another program; choose another with --port or "
                "HEARTH_PORT"
            ) from error
        raise SetupError(f"cannot listen on {host}:{port}: {error.strerror}") from error
    except OverflowError as error:
        listener.close()
        raise SetupError(f"cannot listen on port {port}: {error}") from error
    listener.set_inheritable(False)
    return listener


def address(listener: socket.socket, *, has_tls: bool = False) -> str:
    """Where clients reach the server, such as `http://127.0.0.1:8080`."""
    host, port = listener.getsockname()[:2]
    scheme = "https" if has_tls else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """None where the settings name no certificate. Raises SetupError naming the file that does not fit."""
    if not settings.tls.certificate:
        return None
    try:
        return context_of(settings.tls)
    except ConfigError as error:
        raise SetupError(error.message) from error


class Gateway(uvicorn.Server):
    """uvicorn, with limits on each connection, telling when it listens, and ending with status 0 when it was
    asked to stop."""

    def __init__(
        self, config: uvicorn.Config, settings: Settings, tls: ssl.SSLContext | None, on_listening: Listening
    ) -> None:
        super().__init__(config)
        self._settings, self._tls, self._on_listening = settings, tls, on_listening
        self._tending = Tending(settings.tls, tls) if tls is not None else None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's own, which knows no time limit for a TLS handshake."""
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            sys.exit(STARTUP_FAILURE)
        current_default_thread_limiter().total_tokens = FILE_READERS
        limits, addresses = self._settings.limits, Addresses(self._settings.limits.address_connections)
        connection = partial(
            LimitedConnection,
            limits,
            addresses,
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
        loop = asyncio.get_running_loop()
        handshake = {"ssl_handshake_timeout": limits.receive_seconds} if self._tls is not None else {}
        self.servers = [
            await loop.create_server(
                connection, sock=each, ssl=self._tls, backlog=BACKLOG, **cast(Any, handshake)
            )
            for each in sockets or ()
        ]
        if self._tending is not None:
            self._tending.start()
        self.started = True
        gc.freeze()  # what a start makes stays; a full collection of it would hold up all streams for 25 ms
        self._on_listening()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._tending is not None:
            await self._tending.stop()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """uvicorn raises the signals it has obeyed once more, which would end the process by them."""
        with super().capture_signals():
            yield
            self._captured_signals.clear()


def serve(
    settings: Settings,
    runtime: Runtime,
    listener: socket.socket,
    on_listening: Listening,
    tls: ssl.SSLContext | None = None,
) -> None:
    """Answer requests until SIGINT or SIGTERM, then drain."""
    config = uvicorn.Config(
        build_app(runtime),
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=int(settings.limits.idle_seconds),
        timeout_graceful_shutdown=int(settings.limits.drain),
    )
    Gateway(config, settings, tls, on_listening).run([listener])
