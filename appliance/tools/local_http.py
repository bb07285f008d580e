"""HTTP to addresses that the operator has listed, and to no others: no redirect, no proxy, no name look-up.

What is checked is what is connected to: the address is parsed once, hosts are IP addresses, and the same
object goes to the client. Bounded in size here; in time by the caller.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import unquote

import httpx

from appliance.config.tools import HttpAddress
from appliance.errors import ConfigError, Forbidden
from appliance.tools.tool import ToolFact, ToolFailure

MAX_URL = 2048
MAX_BODY = 64 * 1024
LOOPBACK = "127.0.0.1"  # what `localhost` stands for here
DEFAULT_PORTS = {"http": 80, "https": 443}
TEXT_TYPES = ("text/", "application/json", "application/xml", "application/javascript", "application/yaml")

# Raises when the address may not be connected to.
AddressCheck = Callable[[str, int], None]


class LocalHttp:
    """Raises ConfigError for an address whose host is a name. `check` is the egress guard's word."""

    def __init__(self, addresses: Sequence[HttpAddress], check: AddressCheck, *, most_bytes: int) -> None:
        try:
            self._allowed = [(_parsed(address.url), address.methods) for address in addresses]
        except ToolFailure as failure:
            raise ConfigError(f"tools.http: {failure.message}") from failure
        self._check, self._most_bytes = check, most_bytes
        for url, _ in self._allowed:
            if not _is_address(url.host):
                raise ConfigError(
                    f"tools.http: {url.host!r} is a name; give the IP address, or localhost for this machine"
                )
        self._client: httpx.AsyncClient | None = None

    def fact(self) -> ToolFact:
        """The tool as the model is told of it, with the addresses that there are."""
        known = "; ".join(f"{', '.join(methods)} {url}" for url, methods in self._allowed)
        methods = sorted({method for _, methods in self._allowed for method in methods})
        return ToolFact(
            name="local_http",
            description=f"Asks a service on the local network over HTTP. Available: {known or 'none'}",
            parameters={
                "type": "object",
                "properties": {
                    "url": {"type": "string", "description": "the whole address"},
                    "method": {"type": "string", "enum": methods or ["GET"]},
                    "body": {"type": "string", "description": "what to send, as JSON or text"},
                },
                "required": ["url"],
                "additionalProperties": False,
            },
        )

    async def call(self, arguments: dict[str, Any]) -> str:
        """Status line and text. Raises ToolFailure."""
        url, method, body = _asked(arguments)
        allowed = any(method in methods and _covers(prefix, url) for prefix, methods in self._allowed)
        if not allowed:
            raise ToolFailure(f"{method} {url} is not among the addresses that may be asked", "http", 403)
        try:
            self._check(url.host, url.port or DEFAULT_PORTS[url.scheme])
            async with self._open().stream(method, url, content=body, headers=_headers(body)) as response:
                return await self._read(response)
        except Forbidden as error:
            raise ToolFailure(error.message, "http", 403) from error
        except httpx.HTTPError as error:
            raise ToolFailure(f"{url.host}:{url.port} did not answer: {error}", "http", 502) from error

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()

    def _open(self) -> httpx.AsyncClient:
        if self._client is None:
            self._client = httpx.AsyncClient(
                trust_env=False, follow_redirects=False, limits=httpx.Limits(max_connections=16)
            )
        return self._client

    async def _read(self, response: httpx.Response) -> str:
        if response.has_redirect_location:
            raise ToolFailure(
                "the service answered with a redirect, which is not followed", "http", response.status_code
            )
        kind = response.headers.get("content-type", "text/plain").partition(";")[0].strip().lower()
        if not (kind.startswith(TEXT_TYPES) or kind.endswith(("+json", "+xml"))):
            raise ToolFailure(f"the service answered with {kind!r}, which is no text", "http", 415)
        raw = bytearray()
        async for piece in response.aiter_bytes():
            raw += piece
            if len(raw) > self._most_bytes:
                break  # the caller cuts to the same length and says so
        text = _decoded(bytes(raw), response.charset_encoding)
        if response.is_error:
            raise ToolFailure(f"HTTP {response.status_code}\n\n{text[:1000]}", "http", response.status_code)
        return text


def _asked(arguments: dict[str, Any]) -> tuple[httpx.URL, str, bytes | None]:
    url, method, body = arguments.get("url"), arguments.get("method", "GET"), arguments.get("body")
    if not isinstance(url, str) or not isinstance(method, str):
        raise ToolFailure("`url` and `method` are texts")
    if body is not None and not isinstance(body, str):
        raise ToolFailure("`body` is a text")
    content = None if body is None else body.encode("utf-8", "replace")
    if content is not None and len(content) > MAX_BODY:
        raise ToolFailure(f"the body has {len(content)} bytes; the limit is {MAX_BODY}")
    return _parsed(url), method.upper(), content


def _parsed(text: str) -> httpx.URL:
    """Raises ToolFailure for what is no plain address: user names, fragments, dots in the path."""
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, ValueError, TypeError) as error:
        raise ToolFailure(f"{text[:200]!r} is no address", "http", 400) from error
    segments = unquote(url.path).replace("\\", "/").split("/")
    if (
        len(text) > MAX_URL
        or url.scheme not in DEFAULT_PORTS
        or url.userinfo
        or url.fragment
        or not url.host
        or any(segment in (".", "..") for segment in segments)
    ):
        raise ToolFailure(f"{text[:200]!r} is no plain http address", "http", 400)
    return url.copy_with(host=LOOPBACK) if url.host == "localhost" else url


def _covers(prefix: httpx.URL, url: httpx.URL) -> bool:
    same = prefix.scheme == url.scheme and _place(prefix) == _place(url)
    below = prefix.path.rstrip("/")
    return same and (url.path == prefix.path or url.path == below or url.path.startswith(below + "/"))


def _place(url: httpx.URL) -> tuple[str, int]:
    return url.host, url.port or DEFAULT_PORTS[url.scheme]


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _decoded(raw: bytes, charset: str | None) -> str:
    try:
        return raw.decode(charset or "utf-8", errors="replace")
    except LookupError:  # a charset that nobody knows
        return raw.decode("utf-8", errors="replace")


def _headers(body: bytes | None) -> dict[str, str]:
    if body is None:
        return {"accept": "application/json, text/*"}
    kind = "application/json" if body.lstrip()[:1] in (b"{", b"[") else "text/plain; charset=utf-8"
    return {"accept": "application/json, text/*", "content-type": kind}
