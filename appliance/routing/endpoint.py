"""An upstream's address, parsed once. Every later use takes these fields; nothing parses the text again."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from msgspec import Struct

from appliance.errors import ConfigError


class Endpoint(Struct, frozen=True, kw_only=True):
    """`host` is bare (no brackets), lower case; `base_path` begins with / and ends without."""

    scheme: str
    host: str
    port: int
    base_path: str

    @property
    def authority(self) -> str:
        """Host and port as the Host header wants them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.scheme == "https" else 80) else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.authority}{self.base_path}"

    @property
    def is_loopback(self) -> bool:
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def parse_endpoint(url: str, setting: str) -> Endpoint:
    """Raises ConfigError, naming `setting`, for anything but a plain http or https address."""

    def refuse(reason: str) -> ConfigError:
        return ConfigError(f"{setting} = {url!r}: {reason}; right is https://host[:port]/path")

    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise refuse(str(error)) from None
    if parts.scheme not in ("http", "https"):
        raise refuse("it is neither http nor https")
    if "@" in parts.netloc:
        raise refuse("a name or password does not belong in an address; use key_env or key_file")
    if parts.query or parts.fragment:
        raise refuse("it has a query or a fragment")
    if not host or port == 0 or not all("!" <= c <= "~" and c not in "\\%" for c in host + parts.path):
        raise refuse("its host, port or path is malformed")
    return Endpoint(
        scheme=parts.scheme,
        host=host.lower(),
        port=port or (443 if parts.scheme == "https" else 80),
        base_path=parts.path.rstrip("/"),
    )
