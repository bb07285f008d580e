"""By which names this server may be called, and from which web pages: the answer to DNS rebinding.

A browser that was made to believe that a foreign name is this machine sends that name as Host; a foreign page
that posts here sends its own Origin. Pure: knows headers' texts, no requests.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

from appliance.errors import Forbidden

LOCAL_NAMES = ("localhost", "ip6-localhost")


class Misdirected(Forbidden):
    """A Host or Origin that is not for this server."""

    code = "host_not_allowed"


class Names:
    """`hosts` are patterns of names, `origins` whole origins, as the settings have them."""

    def __init__(self, hosts: Sequence[str], origins: Sequence[str]) -> None:
        self._hosts = (*LOCAL_NAMES, *(host.lower() for host in hosts))
        self._origins = frozenset(origins)

    def check_host(self, host: str, address: str | None) -> None:
        """`address`: the one that the connection came in on. Raises Misdirected for a name not ours."""
        name = host_name(host)
        if not name:
            raise Misdirected("the request's Host header is no name", param="host")
        if self._is_own_address(name, address) or any(fnmatchcase(name, each) for each in self._hosts):
            return
        raise Misdirected(
            f"this server is not called {name[:100]!r}; if it is, say so in the setting access.hosts",
            param="host",
        )

    def check_origin(self, origin: str, scheme: str, host: str) -> bool:
        """Whether the page is a foreign one that is allowed, and needs CORS headers. Raises Misdirected."""
        if origin in self._origins:
            return True
        if origin == f"{scheme}://{host}":
            return False  # a page of this server's own
        raise Misdirected(
            f"pages of {origin[:100]!r} may not use this server; if they should, name them in the setting "
            "access.origins",
            param="origin",
            code="origin_not_allowed",
        )

    @staticmethod
    def _is_own_address(name: str, address: str | None) -> bool:
        """A literal address cannot be rebound; one of another machine is refused all the same."""
        try:
            called = ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        if called.is_loopback:
            return True
        return address is not None and called == ipaddress.ip_address(address.partition("%")[0])


def host_name(host: str) -> str:
    """The name in a Host header, in lower case and without its port; empty for what is none."""
    if not host or any(c in host for c in "/@?#\\, \t") or not host.isascii():
        return ""
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port  # raises for what is no number
    except ValueError:
        return ""
    return (parts.hostname or "").rstrip(".")
