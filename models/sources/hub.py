"""Downloads a file from a model hub over https, continuing where an earlier try stopped.

Goes only to the manifest's own host and to the domains that manifest lets it redirect to. A host that
cannot be reached is remembered, so that a machine without internet waits for it once, a few seconds.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Self
from urllib.request import getproxies

import httpx

from models.errors import SourceUnavailable
from models.manifest import Hub
from models.partial import Partial
from models.progress import Meter

_CONNECT_SECONDS = 3.0
_STALL_SECONDS = 20.0
_REDIRECTS = 5
_RESUMES = 5


class HubClient:
    def __init__(self, trust: ssl.SSLContext | None = None) -> None:
        """`trust` replaces the default certificate authorities."""
        timeout = httpx.Timeout(_STALL_SECONDS, connect=_CONNECT_SECONDS)
        self._client = httpx.Client(verify=trust or True, timeout=timeout, follow_redirects=False)
        self._unreachable: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def fetch(self, source: Hub, partial: Partial, meter: Meter) -> None:
        """Appends what is missing. Raises SourceUnavailable with the reason, HashMismatch past the size."""
        url = httpx.URL(source.url)
        self._require_reachable(url, partial.label)
        for _ in range(_RESUMES):
            before = partial.size
            try:
                with self._answer(source, url, partial) as response:
                    if response.status_code == httpx.codes.OK:
                        partial.restart()
                        meter.reach(0)
                    for chunk in response.iter_raw():
                        partial.write(chunk, url.host)
                        meter.advance(len(chunk))
                if not partial.missing:
                    return
                reason = (
                    f"{url.host} ended its answer after {partial.size:,} of {partial.expected_bytes:,} bytes"
                )
            except httpx.HTTPError as error:
                reason = f"{url.host} cannot be reached or stalled ({type(error).__name__})"
            if partial.size <= before:
                break
        raise SourceUnavailable(partial.label, (reason,))

    @contextlib.contextmanager
    def _answer(self, source: Hub, url: httpx.URL, partial: Partial) -> Iterator[httpx.Response]:
        """The 200 or fitting 206 at the end of the allowed redirects."""
        headers = {"Accept-Encoding": "identity"}
        if partial.size:
            headers["Range"] = f"bytes={partial.size}-"
        for _ in range(_REDIRECTS):
            with self._client.stream("GET", url, headers=headers) as response:
                if response.is_redirect:
                    url = self._target(source, response, partial)
                    continue
                self._check(response, url, partial)
                yield response
                return
        raise SourceUnavailable(partial.label, (f"{url.host} redirected more than {_REDIRECTS} times",))

    def _target(self, source: Hub, response: httpx.Response, partial: Partial) -> httpx.URL:
        target = response.url.join(response.headers["Location"])
        home = httpx.URL(source.url).host
        allowed = target.host == home or any(
            target.host == host or target.host.endswith(f".{host}") for host in source.redirect_hosts
        )
        if target.scheme != "https" or not allowed:
            place = f"{target.scheme}://{target.host}"
            raise SourceUnavailable(
                partial.label, (f"{home} redirected to {place}, which its manifest does not allow",)
            )
        return target

    def _check(self, response: httpx.Response, url: httpx.URL, partial: Partial) -> None:
        status = response.status_code
        if status == httpx.codes.OK:
            return
        begins = response.headers.get("Content-Range", "").startswith(f"bytes {partial.size}-")
        if status != httpx.codes.PARTIAL_CONTENT or not begins:
            raise SourceUnavailable(partial.label, (f"{url.host} answered {status}",))

    def _require_reachable(self, url: httpx.URL, label: str) -> None:
        """Bounds the name look-up too, which no socket timeout covers. A proxy does its own look-ups."""
        if getproxies().get("https"):
            return
        if url.host not in self._unreachable and not _connects(url.host, url.port or 443):
            self._unreachable.add(url.host)
        if url.host in self._unreachable:
            raise SourceUnavailable(label, (f"{url.host} cannot be reached",))


def _connects(host: str, port: int) -> bool:
    reached = threading.Event()

    def attempt() -> None:
        with contextlib.suppress(OSError), socket.create_connection((host, port), _CONNECT_SECONDS):
            reached.set()

    thread = threading.Thread(target=attempt, name="hub-probe", daemon=True)
    thread.start()
    thread.join(_CONNECT_SECONDS + 1)
    return reached.is_set()
