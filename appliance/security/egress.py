"""What may leave this machine: in `offline` mode nothing, refused inside the process before a packet is made.

Three layers under every client, ours or a library's: `check`, which our own upstream client asks about each
address; an audit hook, which sees every connect, send and look-up of Python's sockets; and, because uvloop
connects without Python's sockets, a watched event loop. Loopback and Unix sockets pass. Refusals are counted.
C code that opens sockets by itself is not seen: that is for `unshare -n` or a firewall, and strace proves it
in the tests.
"""

from __future__ import annotations

import asyncio
import ipaddress
import sys
from collections.abc import Callable
from typing import Any

from appliance.errors import Forbidden

_ADDRESS_EVENTS = frozenset(["socket.connect", "socket.sendto", "socket.sendmsg"])
_LOOKUP_EVENTS = frozenset(
    ["socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo"]
)
_LOCAL_NAMES = frozenset(["localhost", "localhost.localdomain", "ip6-localhost", ""])


class EgressRefused(Forbidden, OSError):
    """An attempt to leave the machine in offline mode. An OSError too, so that libraries fail as without
    network.
    """

    code = "egress_refused"


class EgressGuard:
    """One per process: `install` cannot be undone, `release` makes it let everything pass."""

    def __init__(self, *, is_offline: bool) -> None:
        self._is_offline = is_offline
        self._is_installed = False
        self.refused = 0

    @property
    def is_offline(self) -> bool:
        return self._is_offline

    def enforce(self) -> None:
        """Let nothing leave from now on."""
        self._is_offline = True

    def install(self) -> None:
        """Watch Python's sockets from now on, in all threads."""
        if not self._is_installed:
            self._is_installed = True
            sys.addaudithook(self._on_event)

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Watch an event loop that makes sockets by itself, as uvloop's does."""
        wrap = self._wrapped
        for name in ("create_connection", "create_datagram_endpoint", "getaddrinfo"):
            setattr(loop, name, wrap(name, getattr(loop, name)))

    def release(self) -> None:
        self._is_offline = False

    def check(self, host: str, port: int) -> None:
        """Raises EgressRefused for an address that may not be connected to."""
        if self._is_offline and not is_loopback(host):
            self._refuse(f"{host}:{port}")

    def _refuse(self, target: str) -> None:
        self.refused += 1
        raise EgressRefused(f"the mode is offline: a connection to {target} was refused inside the process")

    def _on_event(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._is_offline:
            return
        if event in _ADDRESS_EVENTS:
            address = arguments[1]
            # A string or bytes is a Unix socket's path; None comes from a socket that is connected already.
            if isinstance(address, tuple) and address and not is_loopback(address[0]):
                self._refuse(f"{address[0]}:{address[1] if len(address) > 1 else ''}")
        elif event in _LOOKUP_EVENTS:
            host = arguments[0][0] if isinstance(arguments[0], tuple) else arguments[0]
            # A look-up asks a name server, which is egress; an address is no look-up.
            if host is not None and not _needs_no_lookup(host):
                self._refuse(f"a name server, about {_text(host)!r},")

    def _wrapped(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        async def guarded(*arguments: Any, **options: Any) -> Any:
            if self._is_offline:
                target = self._target(name, arguments, options)
                if target is not None and not is_loopback(target):
                    self._refuse(_text(target))
            return await method(*arguments, **options)

        return guarded

    @staticmethod
    def _target(name: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        if name == "getaddrinfo":
            host = arguments[0] if arguments else options.get("host")
            return None if host is None or _needs_no_lookup(host) else host
        if name == "create_connection":
            return options.get("host", arguments[1] if len(arguments) > 1 else None)
        remote = options.get("remote_addr", arguments[2] if len(arguments) > 2 else None)
        return remote[0] if remote else None


def is_loopback(host: Any) -> bool:
    """Whether `host`, an address or a name, is this machine. A name that is not known to be so is not."""
    text = _text(host).lower()
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return text in _LOCAL_NAMES
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def _needs_no_lookup(host: Any) -> bool:
    text = _text(host)
    try:
        ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return text.lower() in _LOCAL_NAMES
    return True


def _text(host: Any) -> str:
    return host.decode("latin-1") if isinstance(host, (bytes, bytearray)) else str(host)
