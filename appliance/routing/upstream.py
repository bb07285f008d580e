"""A platform's model, asked: one call, its answer as deltas, every way to fail as an UpstreamFailure.

An answer counts as whole when every choice has its finish reason or the service says [DONE] after some text;
everything else that ends is a cut. Knows no other candidates, no retries, no budgets.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

import msgspec

from appliance import trace
from appliance.records import ChatPrompt, Delta, FinishReason, Usage
from appliance.routing.connection import Connection, Head, Limits
from appliance.routing.dial import AddressCheck, Dialer
from appliance.routing.endpoint import Endpoint
from appliance.routing.failure import UpstreamFailure
from appliance.routing.pool import Pool
from appliance.routing.registry import Model, Platform
from appliance.routing.request import RoutedRequest
from appliance.routing.secret import Secret
from appliance.routing.sse import EventParser
from appliance.routing.wire import read_event, read_models, request_body, request_path, status_failure

MAX_ERROR_BYTES = 64 * 1024
MAX_BODY_BYTES = 32 * 1024 * 1024
PROBE_SECONDS = 5.0
ERROR_SECONDS = 2.0  # for the body of an error; its status alone says enough
CLOSING_SECONDS = 1.0
ANSWER_SECONDS = 3600.0  # the longest that an answer may take, where the request sets no deadline
USER_AGENT = b"user-agent: hearth\r\n"


class UpstreamStream:
    """One running answer. `read` until it gives None; `close` at any time, at once."""

    def __init__(
        self,
        pool: Pool,
        connection: Connection,
        *,
        is_stream: bool,
        id: int,
        echo: str,
        goes_on: bool,
        key: Secret | None,
    ) -> None:
        self._pool = pool
        self._connection = connection
        self._is_stream = is_stream
        self._id = id
        self._echo = echo  # the partial text that the answer is still to repeat
        self._parser = EventParser()
        self._finished: dict[int, FinishReason | None] = {}
        self._has_content = goes_on  # of an answer that goes on, nothing may be missing
        self._is_done = False  # the service said [DONE]
        self._is_over = False
        self._failure: UpstreamFailure | None = None
        self._key = key
        self.usage: Usage | None = None
        self.tokens = 0

    async def read(self) -> list[Delta] | None:
        """The next deltas; None at the end of a whole answer. Raises UpstreamFailure.

        What came before a failure is given out before the failure is raised.
        """
        while True:
            if self._failure is not None:
                raise _without_key(self._failure, self._key)
            if self._is_over:
                return None
            try:
                deltas = await (self._read_events() if self._is_stream else self._read_whole())
            except UpstreamFailure as failure:
                self._failure = failure
                continue
            if deltas:
                return deltas

    def close(self) -> None:
        """Give the connection back if it can serve again, else close it: the service sees that and can
        stop.
        """
        if self._is_over and self._failure is None:
            self._pool.give_back_soon(self._connection)
        else:
            self._connection.abort()
        self._is_over = True

    async def _read_events(self) -> list[Delta]:
        piece = await self._next_piece()
        events = self._parser.feed(piece) if piece else self._last_events()
        deltas: list[Delta] = []
        try:
            for event in events:
                if event == b"[DONE]":
                    self._is_done = self._is_over = True
                    break
                deltas += self._take(event)
            if self._parser.failure is not None and not self._is_finished():
                raise self._parser.failure
            if self._is_over:
                self._require_whole()
        except UpstreamFailure as failure:
            self._failure = failure
        return deltas

    async def _next_piece(self) -> bytes:
        """b"" at the end. Once every choice is finished, only usage and [DONE] can come: they get a
        moment.
        """
        if not self._is_finished():
            return await self._connection.read()
        try:
            async with asyncio.timeout(CLOSING_SECONDS):
                return await self._connection.read()
        except (UpstreamFailure, TimeoutError):
            return b""

    def _last_events(self) -> list[bytes]:
        """Some services forget the empty line after [DONE]; anything else that is not whole was cut."""
        self._is_over = True
        return [event for event in self._parser.finish() if event == b"[DONE]"]

    async def _read_whole(self) -> list[Delta]:
        """An answer in one piece: some services know no streams."""
        body = await read_body(self._connection, MAX_BODY_BYTES)
        if not body.strip():
            raise UpstreamFailure("empty", "a 200 with nothing in it")
        self._is_done = self._is_over = True
        deltas = self._take(body)
        self._require_whole()
        return deltas

    def _take(self, event: bytes) -> list[Delta]:
        deltas, usage = read_event(event, self._id)
        self.usage = usage or self.usage
        found = [each for delta in deltas if (each := self._without_echo(delta)) is not None]
        for delta in found:
            self._has_content = self._has_content or bool(delta.text or delta.reasoning or delta.tool_calls)
            self._finished[delta.choice] = delta.finish_reason or self._finished.get(delta.choice)
            self.tokens += delta.tokens
        if not self._has_content and self._is_finished() and set(self._finished.values()) == {"stop"}:
            raise UpstreamFailure("empty", "an answer with nothing in it")
        return found

    def _without_echo(self, delta: Delta) -> Delta | None:
        if not self._echo or not delta.text:
            return delta
        size = min(len(self._echo), len(delta.text))
        if delta.text[:size] != self._echo[:size]:
            raise UpstreamFailure(
                "garbage", "the answer does not go on from the partial text that it repeats"
            )
        self._echo = self._echo[size:]
        rest = msgspec.structs.replace(delta, text=delta.text[size:], tokens=0, logprobs=())
        return rest if rest.text or rest.finish_reason or rest.tool_calls else None

    def _is_finished(self) -> bool:
        return bool(self._finished) and None not in self._finished.values()

    def _require_whole(self) -> None:
        if self._echo:
            raise UpstreamFailure("garbage", "the answer ended within the partial text that it repeats")
        if not self._has_content and not self._is_finished():
            raise UpstreamFailure("empty", "a 200 with no answer in it")
        if not self._is_finished() and not self._is_done:
            raise UpstreamFailure("cut", "the stream ended before the answer did")


class Upstream:
    """One instance of a platform. `check` is the egress guard's word on each address."""

    def __init__(self, platform: Platform, endpoint: Endpoint, check: AddressCheck) -> None:
        """Raises ConfigError when the platform's certificates cannot be read."""
        self.platform = platform
        self.endpoint = endpoint
        self._pool = Pool(
            Dialer(
                endpoint,
                ca_file=platform.ca_file,
                proxy=platform.proxy,
                seconds=platform.connect_seconds,
                check=check,
            )
        )

    async def open(
        self,
        request: RoutedRequest,
        model: Model,
        *,
        id: int,
        seconds: float,
        partial: str = "",
        goes_on: bool = False,
    ) -> UpstreamStream:
        """Ask `model`; returns with the answer's head. Raises UpstreamFailure.

        `seconds` bounds the whole answer. `partial` is a chat answer's beginning, to be continued; `goes_on`
        says that there is a beginning, in `partial` or in the prompt, and so an empty answer is an answer.
        """
        body = request_body(
            request,
            model=model.name,
            type=self.platform.type,
            stream_usage=self.platform.stream_usage,
            partial=partial,
        )
        connection, head = await self._pool.exchange(
            self._request(b"POST", request_path(request), body),
            Limits(
                first_byte=self.platform.first_byte_seconds,
                between_bytes=self.platform.between_bytes_seconds,
                answer=min(seconds, ANSWER_SECONDS),
            ),
        )
        if head.status != 200:
            raise await self._failure(connection, head)
        if head.headers.get(b"content-encoding", b"identity").lower() != b"identity":
            connection.abort()
            raise UpstreamFailure("garbage", "the answer is compressed, which was not asked for")
        kind = head.headers.get(b"content-type", b"").lower()
        prompt = request.prompt
        if isinstance(prompt, ChatPrompt) and prompt.continues:
            partial = prompt.messages[-1].content + partial
        return UpstreamStream(
            self._pool,
            connection,
            is_stream=kind.startswith(b"text/event-stream"),
            id=id,
            echo=partial if model.continuation == "echo" else "",
            goes_on=goes_on or bool(partial),
            key=self.platform.key,
        )

    async def models(self) -> list[str]:
        """The names of its models; also its health check. Raises UpstreamFailure."""
        limits = Limits(first_byte=PROBE_SECONDS, between_bytes=PROBE_SECONDS, answer=PROBE_SECONDS)
        return read_models(await self._ask(b"GET", "/models", b"", limits))

    async def ask(self, path: str, body: bytes, seconds: float) -> bytes:
        """A whole JSON answer. Raises UpstreamFailure."""
        limits = Limits(
            first_byte=self.platform.first_byte_seconds,
            between_bytes=self.platform.between_bytes_seconds,
            answer=min(seconds, ANSWER_SECONDS),
        )
        return await self._ask(b"POST", path, body, limits)

    async def _ask(self, method: bytes, path: str, body: bytes, limits: Limits) -> bytes:
        connection, head = await self._pool.exchange(self._request(method, path, body), limits)
        if head.status != 200:
            raise await self._failure(connection, head)
        try:
            answer = await read_body(connection, MAX_BODY_BYTES)
        except BaseException:
            connection.abort()
            raise
        self._pool.give_back(connection)
        return answer

    def close(self) -> None:
        """Running answers go on to their end; no connection is kept after it."""
        self._pool.close()

    def _request(self, method: bytes, path: str, body: bytes) -> bytes:
        key = self.platform.key
        lines = [
            b"%b %b HTTP/1.1\r\n" % (method, (self.endpoint.base_path + path).encode("ascii")),
            b"host: %b\r\n" % self.endpoint.authority.encode("ascii"),
            USER_AGENT,
            b"accept: text/event-stream, application/json\r\naccept-encoding: identity\r\n",
            key.header() if key is not None else b"",
            _trace_headers(),
        ]
        if body:
            lines.append(b"content-type: application/json\r\ncontent-length: %d\r\n" % len(body))
        return b"".join([*lines, b"\r\n", body])

    async def _failure(self, connection: Connection, head: Head) -> UpstreamFailure:
        """The failure that another status than 200 means; of its body only the first part is read."""
        body = b""
        try:
            async with asyncio.timeout(ERROR_SECONDS):
                body = await read_body(connection, MAX_ERROR_BYTES)
            self._pool.give_back(connection)
        except (UpstreamFailure, TimeoutError):
            connection.abort()
        except BaseException:
            connection.abort()
            raise
        return _without_key(status_failure(head.status, body, retry_after(head.headers)), self.platform.key)


def _without_key(failure: UpstreamFailure, key: Secret | None) -> UpstreamFailure:
    """Services have been seen to repeat the key in their errors."""
    if key is not None:
        failure.detail = key.hidden_in(failure.detail)
    return failure


# By platform and address: two platforms at one address have two keys.
Upstreams = dict[tuple[str, Endpoint], Upstream]


async def read_body(connection: Connection, limit: int) -> bytes:
    """A whole body of at most `limit` bytes. Raises UpstreamFailure."""
    pieces: list[bytes] = []
    size = 0
    while piece := await connection.read():
        pieces.append(piece)
        size += len(piece)
        if size > limit:
            raise UpstreamFailure("too_large", f"a body of more than {limit} bytes")
    return b"".join(pieces)


def retry_after(headers: Mapping[bytes, bytes]) -> float | None:
    """Seconds from `retry-after-ms` or `retry-after`, the latter as a number or as an HTTP date."""
    for name, unit in ((b"retry-after-ms", 1000.0), (b"retry-after", 1.0)):
        text = headers.get(name, b"").decode("latin-1").strip()
        if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text):
            return float(text) / unit
        if text:
            try:
                return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
            except (ValueError, TypeError, OverflowError):
                continue
    return None


def _trace_headers() -> bytes:
    """The trace of the request that is being answered goes on there, below a span of this call's own."""
    context = trace.current.get()
    if context is None:
        return b""
    parent = f"traceparent: {context.traceparent(trace.new_span())}\r\n"
    state = f"tracestate: {context.state}\r\n" if context.state else ""
    return (parent + state).encode("ascii")
