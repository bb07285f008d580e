"""Carries a synchronous client's requests over the UI's event loop, so that any of them can be cancelled.

A thread that reads a socket cannot be stopped from outside; a task that awaits one can. So the threads of
`backend` wait for tasks.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from typing import cast

import httpx

from appliance.client.http import trust
from appliance.client.knowledge import KnowledgeClient
from tui.call import Call, here


def open_client(url: str | None, key: str | None, authority: str | None) -> KnowledgeClient:
    """A client whose calls can be cancelled. Raises ConfigError for certificates that cannot be read."""
    return KnowledgeClient(url, key, transport=Bridge(authority))


class Bridge(httpx.BaseTransport):
    """`authority`: a PEM file with the certificates to trust."""

    def __init__(self, authority: str | None = None) -> None:
        self._authority = authority
        self._opening = threading.Lock()
        self._inner: httpx.AsyncHTTPTransport | None = None

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        inner = self._opened(request.url.scheme == "https")
        call = here.call
        sent = httpx.Request(
            request.method,
            request.url,
            headers=request.headers,
            stream=_Outgoing(cast(httpx.SyncByteStream, request.stream)),
            extensions=request.extensions,
        )
        got = call.wait(inner.handle_async_request(sent))
        return httpx.Response(
            got.status_code, headers=got.headers, stream=_Incoming(got, call), extensions=got.extensions
        )

    def _opened(self, is_secure: bool) -> httpx.AsyncHTTPTransport:
        """One for all threads: a second one would never be closed."""
        with self._opening:
            if self._inner is None:
                # Certificates take 30 ms to read, and plain connections need none.
                self._inner = httpx.AsyncHTTPTransport(verify=trust(self._authority) if is_secure else False)
            return self._inner

    def close(self) -> None:
        if self._inner is not None:
            here.call.wait(self._inner.aclose())


class _Outgoing(httpx.AsyncByteStream):
    def __init__(self, body: httpx.SyncByteStream) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._body:
            yield piece


class _Incoming(httpx.SyncByteStream):
    def __init__(self, response: httpx.Response, call: Call) -> None:
        self._response = response
        self._call = call
        self._pieces = cast(httpx.AsyncByteStream, response.stream).__aiter__()

    def __iter__(self) -> Iterator[bytes]:
        while (piece := self._call.wait(self._next())) is not None:
            yield piece

    async def _next(self) -> bytes | None:
        return await anext(self._pieces, None)

    def close(self) -> None:
        self._call.leave(self._response.aclose())
