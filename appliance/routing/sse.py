"""Server-sent events out of bytes that may come in any pieces, from a service that may not be well.

Source of the format: the WHATWG HTML standard, "Server-sent events". Only `data` matters to us; a line that
is no field at all is an error, because it means that the service sends something else than it says.
"""

from __future__ import annotations

from appliance.routing.failure import UpstreamFailure

MAX_EVENT_BYTES = 4 * 1024 * 1024
_FIELDS = (b"event", b"id", b"retry")


class EventParser:
    """Feed it bytes, get the data of the events that they complete. Once `failure` is set, no more will
    come.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._size = 0
        self._is_first = True
        self.failure: UpstreamFailure | None = None

    def feed(self, piece: bytes) -> list[bytes]:
        if self.failure is not None:
            return []
        buffer = self._rest + piece if self._rest else piece
        if self._is_first:
            if len(buffer) < 3 and b"\xef\xbb\xbf".startswith(buffer):
                self._rest = buffer
                return []
            self._is_first = False
            buffer = buffer.removeprefix(b"\xef\xbb\xbf")
        events: list[bytes] = []
        for line in self._lines(buffer):
            if not line:
                if self._data:
                    events.append(b"\n".join(self._data))
                    self._data, self._size = [], 0
            elif line.startswith(b"data:"):
                content = line[6:] if line[5:6] == b" " else line[5:]
                self._data.append(content)
                self._size += len(content)
            elif not line.startswith(b":") and line.partition(b":")[0] not in _FIELDS:
                self.failure = UpstreamFailure("garbage", f"a line of the stream is no event: {line[:60]!r}")
                return events
        if len(self._rest) + self._size > MAX_EVENT_BYTES:
            self.failure = UpstreamFailure("too_large", f"an event of more than {MAX_EVENT_BYTES} bytes")
        return events

    def finish(self) -> list[bytes]:
        """The event that the bytes ended in without its empty line. By the standard it does not count."""
        return self.feed(b"\n\n") if self._rest or self._data else []

    def _lines(self, buffer: bytes) -> list[bytes]:
        """The whole lines of `buffer`; the rest is kept. A lone CR ends a line too, unless LF may follow."""
        if b"\r" in buffer:
            held = b"\r" if buffer.endswith(b"\r") else b""
            buffer = buffer.removesuffix(b"\r").replace(b"\r\n", b"\n").replace(b"\r", b"\n") + held
        *lines, self._rest = buffer.split(b"\n")
        return lines
