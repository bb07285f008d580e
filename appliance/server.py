"""The gateway process as a whole: bind, serve, drain, exit.

Owns the listening socket and uvicorn. A busy port is a SetupError before anything else is started.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
from collections.abc import Callable, Generator

import uvicorn

from appliance.api.app import build_app
from appliance.config.schema import Settings
from appliance.errors import SetupError
from appliance.runtime import Runtime

log = logging.getLogger("hearth.server")


def bind(settings: Settings) -> socket.socket:
    """The listening socket. Raises SetupError naming the port when it is taken or not allowed."""
    host, port = settings.host, settings.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(2048)
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


def address(listener: socket.socket) -> str:
    """Where clients reach the server, such as `http://127.0.0.1:8080`."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Gateway(uvicorn.Server):
    """uvicorn, telling when it listens, and ending with status 0 when it was asked to stop."""

    def __init__(self, config: uvicorn.Config, on_listening: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_listening = on_listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_listening()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """uvicorn raises the signals it has obeyed once more, which would end the process by them."""
        with super().capture_signals():
            yield
            self._captured_signals.clear()


def serve(
    settings: Settings, runtime: Runtime, listener: socket.socket, on_listening: Callable[[], None]
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
        limit_concurrency=settings.limits.connections,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=int(settings.limits.drain),
    )
    Gateway(config, on_listening).run([listener])
