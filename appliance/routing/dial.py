"""From an endpoint to an open connection: resolve once, pin the address, ask the guard, connect, TLS.

No proxy but the platform's own setting, nothing from the environment, no redirect. The address that was
checked is the address that is connected to. Every socket is made here, by Python, so that the process's
egress guard sees it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import certifi

from appliance.errors import ConfigError
from appliance.routing.connection import Connection
from appliance.routing.endpoint import Endpoint
from appliance.routing.failure import UpstreamFailure

PIN_SECONDS = 60.0
MAX_ADDRESSES = 4  # tried per connection
MAX_PROXY_HEAD = 16 * 1024

# Raises when the address may not be connected to.
AddressCheck = Callable[[str, int], None]
_Address = tuple[socket.AddressFamily, str, int]

# Two threads: a resolver that hangs holds up look-ups, never the event loop's own executor.
_resolvers = ThreadPoolExecutor(max_workers=2, thread_name_prefix="resolver")


def trust(ca_file: str) -> ssl.SSLContext:
    """TLS 1.2 or newer, names checked, `ca_file` or the system's certificates. Raises ConfigError."""
    try:
        context = ssl.create_default_context(cafile=ca_file or None)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"ca_file = {ca_file!r} holds no certificates that can be read: {error}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not ca_file and not context.cert_store_stats()["x509_ca"]:
        context.load_verify_locations(certifi.where())  # a system without certificates of its own
    return context


class Dialer:
    """Opens connections to one endpoint. `check` is the egress guard's word on an address."""

    def __init__(
        self, endpoint: Endpoint, *, ca_file: str, proxy: Endpoint | None, seconds: float, check: AddressCheck
    ) -> None:
        self._endpoint = endpoint
        self._proxy = proxy
        self._seconds = seconds
        self._check = check
        self._trust = trust(ca_file) if endpoint.scheme == "https" else None
        self._pinned: list[_Address] = []
        self._pinned_until = 0.0

    async def connect(self) -> Connection:
        """A new connection, TLS done. Raises UpstreamFailure of kind connect, and what the guard raises."""
        try:
            async with asyncio.timeout(self._seconds):
                sock = await self._connected_socket()
                try:
                    if self._proxy is not None:
                        await self._tunnel(sock)
                    return await self._connection(sock)
                except BaseException:
                    sock.close()
                    raise
        except TimeoutError:
            raise UpstreamFailure("connect", f"no connection within {self._seconds:g} s") from None
        except (OSError, ssl.SSLError, ssl.CertificateError) as error:
            self._pinned_until = 0.0
            raise UpstreamFailure("connect", _words(error)) from error

    async def _connection(self, sock: socket.socket) -> Connection:
        _, connection = await asyncio.get_running_loop().create_connection(
            Connection,
            sock=sock,
            ssl=self._trust,
            server_hostname=self._endpoint.host if self._trust else None,
            ssl_handshake_timeout=self._seconds if self._trust else None,
        )
        return connection

    async def _connected_socket(self) -> socket.socket:
        loop = asyncio.get_running_loop()
        last: OSError | None = None
        addresses = await self._addresses()
        for number, (family, host, port) in enumerate(addresses):
            self._check(host, port)
            sock = socket.socket(family, socket.SOCK_STREAM)
            try:
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                # The last address may use all the time that is left; the others leave some for it.
                share = None if number == len(addresses) - 1 else self._seconds / len(addresses)
                async with asyncio.timeout(share):
                    await loop.sock_connect(sock, (host, port))
                return sock
            except TimeoutError as error:
                sock.close()
                last = error
            except OSError as error:
                sock.close()
                last = error
            except BaseException:
                sock.close()
                raise
        raise last or OSError("the name has no address")

    async def _addresses(self) -> list[_Address]:
        loop = asyncio.get_running_loop()
        if loop.time() < self._pinned_until:
            return self._pinned
        target = self._proxy or self._endpoint
        found = await loop.run_in_executor(_resolvers, _resolve, target.host, target.port)
        allowed = [address for address in found if _is_reachable_kind(address[1])]
        if not allowed:
            raise OSError(f"{target.host} has no address that an upstream may have")
        self._pinned = allowed[:MAX_ADDRESSES]
        self._pinned_until = loop.time() + PIN_SECONDS
        return self._pinned

    async def _tunnel(self, sock: socket.socket) -> None:
        """CONNECT through the proxy, RFC 9110 section 9.3.6; plain http is tunnelled too."""
        loop = asyncio.get_running_loop()
        host = f"[{self._endpoint.host}]" if ":" in self._endpoint.host else self._endpoint.host
        target = f"{host}:{self._endpoint.port}"
        await loop.sock_sendall(sock, f"CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n\r\n".encode("ascii"))
        head = b""
        while b"\r\n\r\n" not in head:
            piece = await loop.sock_recv(sock, 4096)
            head += piece
            if not piece or len(head) > MAX_PROXY_HEAD:
                raise UpstreamFailure("connect", "the proxy did not answer CONNECT as HTTP asks")
        status = head.split(b"\r\n", 1)[0].split(b" ")
        if len(status) < 2 or not status[1].startswith(b"2"):
            raise UpstreamFailure("connect", f"the proxy refused the tunnel: {status[1:2]!r}")


def _resolve(host: str, port: int) -> list[_Address]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [(family, str(address[0]), int(address[1])) for family, _, _, _, address in found]
    return list(dict.fromkeys(addresses))


def _is_reachable_kind(address: str) -> bool:
    """No service of an operator's is there, but a cloud's metadata service or worse may be."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    return not (
        ip.is_link_local or ip.is_multicast or ip.is_unspecified or (ip.is_reserved and ip.version == 4)
    )


def _words(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error)[:200] or type(error).__name__
