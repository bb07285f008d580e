"""Form uploads as they stream in: part after part, none of them ever whole in memory.

The only import of python_multipart.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from appliance.errors import Cancelled, InvalidRequest, InvalidValue

MOST_PARTS = 16
MOST_HEADER_BYTES = 8192
MOST_FIELD_BYTES = 4096


@dataclass
class Part:
    """One part of a form. `pieces` must be read to its end before the next part is asked for."""

    name: str
    filename: str | None
    _form: Form

    async def pieces(self) -> AsyncIterator[bytes]:
        while (piece := await self._form.next_piece()) is not None:
            yield piece

    async def text(self) -> str:
        """A small field's value. Raises InvalidValue when it is not small, or not UTF-8."""
        value = bytearray()
        async for piece in self.pieces():
            value += piece
            if len(value) > MOST_FIELD_BYTES:
                raise InvalidValue(f"{self.name} is longer than {MOST_FIELD_BYTES} bytes", param=self.name)
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InvalidValue(f"{self.name} is not UTF-8", param=self.name) from error


@dataclass
class _Event:
    kind: str  # begin, data, end
    data: bytes = b""
    headers: dict[bytes, bytes] = field(default_factory=dict)


class Form:
    """A multipart body. Raises InvalidRequest when it is none or broken, Cancelled when the client leaves."""

    def __init__(self, request: Request) -> None:
        kind, options = parse_options_header(request.headers.get("content-type", ""))
        if kind != b"multipart/form-data" or not options.get(b"boundary"):
            raise InvalidRequest(
                "this endpoint reads a form (multipart/form-data) with the parts `file` and `purpose`"
            )
        self._stream = request.stream()
        self._events: deque[_Event] = deque()  # of one piece of the body
        self._headers: dict[bytes, bytes] = {}
        self._name = self._value = b""
        self._parts = 0
        self._parser = MultipartParser(
            options[b"boundary"],
            {
                "on_part_begin": self._begin,
                "on_header_field": self._header_name,
                "on_header_value": self._header_value,
                "on_header_end": self._header_end,
                "on_headers_finished": self._headers_finished,
                "on_part_data": self._data,
                "on_part_end": lambda: self._events.append(_Event("end")),
            },
        )

    async def parts(self) -> AsyncIterator[Part]:
        while (event := await self._next()) is not None:
            if event.kind == "begin":
                _, options = parse_options_header(event.headers.get(b"content-disposition", b""))
                name, filename = options.get(b"name"), options.get(b"filename")
                if name is None:
                    raise InvalidRequest("a part of the form has no name")
                yield Part(
                    name.decode("utf-8", "replace"),
                    None if filename is None else filename.decode("utf-8", "replace"),
                    self,
                )

    async def next_piece(self) -> bytes | None:
        """The next bytes of the present part; None at its end."""
        event = await self._next()
        if event is None:
            raise InvalidRequest("the form ends in the middle of a part")
        return event.data if event.kind == "data" else None

    async def _next(self) -> _Event | None:
        while not self._events:
            try:
                chunk = await anext(self._stream)
            except StopAsyncIteration:
                return None
            except ClientDisconnect as error:
                raise Cancelled("the client left before its upload was complete") from error
            try:
                self._parser.write(chunk)
            except MultipartParseError as error:
                raise InvalidRequest(f"the form is malformed: {error}") from error
        return self._events.popleft()

    def _begin(self) -> None:
        self._headers = {}
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise InvalidRequest(f"the form has more than {MOST_PARTS} parts")

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]
        self._check_header()

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]
        self._check_header()

    def _check_header(self) -> None:
        if len(self._name) + len(self._value) > MOST_HEADER_BYTES or len(self._headers) > MOST_PARTS:
            raise InvalidRequest("a part of the form has too much in its headers")

    def _header_end(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def _headers_finished(self) -> None:
        self._events.append(_Event("begin", headers=self._headers))

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._events.append(_Event("data", data[start:end]))
