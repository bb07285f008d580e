"""An MCP server behind an address: streamable HTTP, a POST for each message.

Source: Model Context Protocol, transports, 2025-06-18. An answer is JSON, or a stream of events one of which
is the answer. No redirect is followed and no proxy is used; `check` is asked before every connection's use.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable

import httpx
import msgspec

from appliance.errors import ConfigError, Forbidden
from appliance.tools.mcp.transport import MAX_MESSAGE, Message, answer_to
from appliance.tools.tool import ToolFailure

MOST_SECONDS = 3600.0  # of silence; the caller limits the whole call
SESSION = "mcp-session-id"
DEFAULT_PORTS = {"http": 80, "https": 443}

# Raises when the address may not be connected to.
AddressCheck = Callable[[str, int], None]


class StreamableHttp:
    """Raises ConfigError for an address that is none, and for a token variable that is not set."""

    def __init__(self, label: str, url: str, token_variable: str, check: AddressCheck) -> None:
        try:
            self._url = httpx.URL(url)
        except httpx.InvalidURL as error:
            raise ConfigError(f"tools.servers: {label}: {url!r} is no address") from error
        if self._url.scheme not in DEFAULT_PORTS or not self._url.host or self._url.userinfo:
            raise ConfigError(f"tools.servers: {label}: {url!r} is no http address")
        self._label, self._check = label, check
        self._headers = {"accept": "application/json, text/event-stream"}
        if token_variable:
            token = os.environ.get(token_variable, "")
            if not token:
                raise ConfigError(f"tools.servers: {label}: the variable {token_variable} is not set")
            self._headers["authorization"] = f"Bearer {token}"
        self._client: httpx.AsyncClient | None = None
        self._session = ""
        self._version = ""

    @property
    def is_open(self) -> bool:
        return self._client is not None

    async def open(self) -> None:
        self._session = self._version = ""
        self._client = httpx.AsyncClient(trust_env=False, follow_redirects=False, timeout=MOST_SECONDS)

    async def ask(self, request: Message) -> Message:
        async with contextlib.aclosing(self._messages(request)) as messages:
            async for message in messages:
                if (reply := answer_to(message)) is not None:
                    await self.tell(reply)
                elif message.get("id") == request["id"]:
                    if request["method"] == "initialize" and isinstance(message.get("result"), dict):
                        self._version = str(message["result"].get("protocolVersion", ""))
                    return message
        raise self._failure("ended its answer without a result")

    async def tell(self, notification: Message) -> None:
        async for _ in self._messages(notification):
            pass

    async def close(self) -> None:
        """The session ends too, where the server keeps one."""
        client, self._client = self._client, None
        if client is None:
            return
        if self._session:
            with contextlib.suppress(httpx.HTTPError, Forbidden):
                self._check(self._url.host, self._port)
                await client.delete(self._url, headers=self._all_headers(), timeout=2.0)
        await client.aclose()

    async def _messages(self, message: Message) -> AsyncGenerator[Message]:
        if self._client is None:
            raise self._failure("is not connected")
        headers = self._all_headers() | {"content-type": "application/json"}
        try:
            self._check(self._url.host, self._port)
            body = msgspec.json.encode(message)
            async with self._client.stream("POST", self._url, content=body, headers=headers) as response:
                if response.status_code >= 300:
                    raise self._failure(f"answered HTTP {response.status_code}", response.status_code)
                self._session = response.headers.get(SESSION, self._session)
                if response.headers.get("content-type", "").startswith("text/event-stream"):
                    async for found in _events(response):
                        yield self._decoded(found)
                elif response.status_code != 202 and (raw := await _all_bytes(response)):
                    yield self._decoded(raw)
        except Forbidden as error:
            raise ToolFailure(error.message, "http", 403) from error
        except httpx.HTTPError as error:
            raise self._failure(f"did not answer: {error}", 502) from error
        except _TooLong as error:
            raise self._failure(f"sent a message of more than {MAX_MESSAGE} bytes") from error

    @property
    def _port(self) -> int:
        return self._url.port or DEFAULT_PORTS[self._url.scheme]

    def _all_headers(self) -> dict[str, str]:
        session = {SESSION: self._session} if self._session else {}
        version = {"mcp-protocol-version": self._version} if self._version else {}
        return self._headers | session | version

    def _decoded(self, raw: bytes) -> Message:
        try:
            return msgspec.json.decode(raw, type=Message)
        except msgspec.DecodeError as error:
            raise self._failure("sent what is no JSON-RPC") from error

    def _failure(self, what: str, status: int = 0) -> ToolFailure:
        return ToolFailure(f"the MCP server {self._label} {what}", "http" if status else "protocol", status)


class _TooLong(Exception):
    pass


async def _all_bytes(response: httpx.Response) -> bytes:
    raw = bytearray()
    async for piece in response.aiter_bytes():
        raw += piece
        if len(raw) > MAX_MESSAGE:
            raise _TooLong
    return bytes(raw)


async def _events(response: httpx.Response) -> AsyncIterator[bytes]:
    """The data of each server-sent event. Source: HTML, section 9.2.6."""
    line, data = bytearray(), bytearray()
    async for piece in response.aiter_bytes():
        for part in piece.splitlines(keepends=True):
            line += part
            if len(line) + len(data) > MAX_MESSAGE:
                raise _TooLong
            if not part.endswith((b"\n", b"\r")):
                continue
            field = bytes(line).rstrip(b"\r\n")
            line.clear()
            if field.startswith(b"data:"):
                data += field.removeprefix(b"data:").removeprefix(b" ")
            elif not field and data:
                yield bytes(data)
                data.clear()
