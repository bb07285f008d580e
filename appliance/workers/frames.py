"""The frames that gateway and workers exchange: a length, then one msgpack record.

Format: four bytes, big endian, the payload's length; then the payload, a tagged record of `records`.
This module owns the encoding and its bounds. It does not know who sits at either end.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Iterator

import msgspec

from appliance.errors import InternalError, InvalidValue
from appliance.launch import Order
from appliance.records import Command, Event

HEADER = struct.Struct(">I")
MAX_FRAME_BYTES = 256 * 1024 * 1024

_encoder = msgspec.msgpack.Encoder()
command_decoder = msgspec.msgpack.Decoder(Command)
event_decoder = msgspec.msgpack.Decoder(Event)
order_decoder = msgspec.msgpack.Decoder(Order)


def encode(record: Command | Event | Order) -> bytes:
    """The record as one frame.

    Raises InternalError when it is larger than a frame may be, InvalidValue when a client's own schema or
    option in it holds an integer that no frame can.
    """
    try:
        payload = _encoder.encode(record)
    except OverflowError as error:
        raise InvalidValue("the request holds a whole number of more than 64 bits") from error
    if len(payload) > MAX_FRAME_BYTES:
        raise InternalError(f"a frame of {len(payload)} bytes is over the limit of {MAX_FRAME_BYTES}")
    return HEADER.pack(len(payload)) + payload


def _checked_length(header: bytes) -> int:
    (length,) = HEADER.unpack(header)
    if length > MAX_FRAME_BYTES:
        raise InternalError(f"the peer announced a frame of {length} bytes; the limit is {MAX_FRAME_BYTES}")
    return int(length)


async def read_event(reader: asyncio.StreamReader) -> Event | None:
    """The next event from a worker; None when the worker has closed its end, cleanly or mid-frame.

    Raises InternalError for a frame that is too long or holds no event.
    """
    try:
        header = await reader.readexactly(HEADER.size)
        payload = await reader.readexactly(_checked_length(header))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    try:
        event: Event = event_decoder.decode(payload)
    except msgspec.DecodeError as error:
        raise InternalError(f"the worker sent what is no event: {error}") from error
    return event


class WorkerChannel:
    """The worker's end: blocking reads by one thread, writes by any.

    A write blocks while the gateway is behind; that back-pressure reaches the engine on purpose.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._stream = connection.makefile("rb", buffering=256 * 1024)
        self._writing = threading.Lock()

    def read_order(self) -> Order:
        """The first frame. Raises EOFError when the gateway left before sending it."""
        payload = self._read_payload()
        if payload is None:
            raise EOFError("the gateway closed the channel before sending an order")
        order: Order = order_decoder.decode(payload)
        return order

    def commands(self) -> Iterator[Command]:
        """Commands until the gateway closes its end."""
        while (payload := self._read_payload()) is not None:
            yield command_decoder.decode(payload)

    def send(self, event: Event) -> None:
        """Raises BrokenPipeError when the gateway is gone: the worker has nobody left to serve."""
        frame = encode(event)
        with self._writing:
            self._connection.sendall(frame)

    def _read_payload(self) -> bytes | None:
        header = self._stream.read(HEADER.size)
        if len(header) < HEADER.size:
            return None
        length = _checked_length(header)
        payload = self._stream.read(length)
        return payload if len(payload) == length else None
