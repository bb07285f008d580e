"""Frames: a length, then one record. What is cut, too long or no record ends the channel in order."""

from __future__ import annotations

import asyncio
import socket
import threading

import pytest

from appliance.errors import InternalError
from appliance.launch import GeneratorOrder
from appliance.records import (
    Cancel,
    ChatPrompt,
    Command,
    Delta,
    Embed,
    Embeddings,
    Ended,
    Event,
    Generate,
    Message,
    SamplingParams,
    Step,
    Stop,
    Timings,
    TokenLogprob,
    TokenPrompt,
    Usage,
)
from appliance.workers.frames import HEADER, MAX_FRAME_BYTES, WorkerChannel, encode, read_event

COMMANDS: list[Command] = [
    Generate(
        id=1,
        prompt=ChatPrompt(messages=(Message(role="user", content="你好 😀"),), template_options={"x": True}),
        sampling=SamplingParams(max_tokens=3, logit_bias={7: -100.0}, stop=("a", "b")),
        choices=2,
    ),
    Generate(id=2, prompt=TokenPrompt(tokens=(1, 2, 3)), sampling=SamplingParams()),
    Embed(id=3, model="m", inputs=("a", (1, 2)), kind="query"),
    Cancel(id=1),
    Stop(),
]
EVENTS: list[Event] = [
    Step(
        deltas=(
            Delta(
                id=1,
                choice=0,
                text="é",
                tokens=2,
                logprobs=(TokenLogprob(token=5, raw=b"\xc3", logprob=-0.5),),
                finish_reason="stop",
            ),
        )
    ),
    Ended(id=1, usage=Usage(prompt_tokens=3, completion_tokens=2), timings=Timings(queued=0.25)),
    Embeddings(id=3, vectors=b"\x00\x01" * 64, dimensions=16, tokens=9),
]


def events_in(raw: bytes) -> list[Event]:
    """What the gateway reads from a worker that wrote `raw` and left."""

    async def read() -> list[Event]:
        reader = asyncio.StreamReader()
        reader.feed_data(raw)
        reader.feed_eof()
        found = []
        while (event := await read_event(reader)) is not None:
            found.append(event)
        return found

    return asyncio.run(read())


def commands_in(raw: bytes) -> list[Command]:
    """What a worker reads from a gateway that wrote `raw` and left."""
    ours, theirs = socket.socketpair()
    with theirs:
        writer = threading.Thread(target=lambda: (ours.sendall(raw), ours.close()))
        writer.start()
        channel = WorkerChannel(theirs)
        try:
            return list(channel.commands())
        finally:
            writer.join()


def test_events_arrive_as_they_were_sent() -> None:
    assert events_in(b"".join(map(encode, EVENTS))) == EVENTS


def test_commands_arrive_as_they_were_sent() -> None:
    assert commands_in(b"".join(map(encode, COMMANDS))) == COMMANDS


def test_an_order_comes_before_the_commands() -> None:
    order = GeneratorOrder(name="m", weights="/w.gguf", cells=512)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(encode(order) + encode(Stop()))
        channel = WorkerChannel(theirs)
        assert channel.read_order() == order
        assert next(channel.commands()) == Stop()


def test_a_gateway_that_leaves_before_its_order_is_told() -> None:
    ours, theirs = socket.socketpair()
    ours.close()
    with theirs, pytest.raises(EOFError):
        WorkerChannel(theirs).read_order()


@pytest.mark.parametrize("kept", [0, 1, 3, 4, 5, -1])
def test_a_cut_frame_ends_the_channel_after_the_whole_ones(kept: int) -> None:
    last = encode(EVENTS[1])
    assert events_in(encode(EVENTS[0]) + last[:kept]) == EVENTS[:1]
    command = encode(COMMANDS[0])
    assert commands_in(encode(COMMANDS[1]) + command[:kept]) == COMMANDS[1:2]


def test_too_long_a_frame_is_refused_before_it_is_read() -> None:
    with pytest.raises(InternalError, match=str(MAX_FRAME_BYTES)):
        events_in(HEADER.pack(MAX_FRAME_BYTES + 1))
    with pytest.raises(InternalError, match=str(MAX_FRAME_BYTES)):
        commands_in(HEADER.pack(MAX_FRAME_BYTES + 1))


def test_too_long_a_record_is_not_sent() -> None:
    with pytest.raises(InternalError, match="over the limit"):
        encode(Embeddings(id=1, vectors=bytes(MAX_FRAME_BYTES), dimensions=1, tokens=1))


@pytest.mark.parametrize("payload", [b"", b"\xc1", b"\x80", b"\x81\xa4type\xa4none", encode(COMMANDS[0])[4:]])
def test_what_is_no_event_is_an_error_of_the_worker(payload: bytes) -> None:
    with pytest.raises(InternalError, match="no event"):
        events_in(HEADER.pack(len(payload)) + payload)


def test_a_worker_cannot_write_to_a_gateway_that_is_gone() -> None:
    ours, theirs = socket.socketpair()
    ours.close()
    with theirs, pytest.raises(BrokenPipeError):
        WorkerChannel(theirs).send(EVENTS[0])


def test_writes_of_several_threads_do_not_mix() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        channel = WorkerChannel(theirs)

        def write(id: int) -> None:
            for _ in range(20):
                channel.send(Embeddings(id=id, vectors=bytes([id]) * 50_000, dimensions=1, tokens=0))

        threads = [threading.Thread(target=write, args=(id,)) for id in range(4)]
        for thread in threads:
            thread.start()
        stream = ours.makefile("rb")
        raw = b""
        for _ in range(80):
            header = stream.read(HEADER.size)
            raw += header + stream.read(HEADER.unpack(header)[0])
        for thread in threads:
            thread.join()
        stream.close()
    for event in events_in(raw):
        assert isinstance(event, Embeddings)
        assert event.vectors == bytes([event.id]) * 50_000
