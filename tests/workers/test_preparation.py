"""The generator's preparing thread: requests become tokens, and none can end the thread for the others."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from appliance.errors import unpack
from appliance.generator import Preparation
from appliance.llm.engine import Engine
from appliance.llm.fake import FakeBackend, FakeVocabulary
from appliance.llm.plan import Limits
from appliance.llm.prepare import Preparer
from appliance.llm.request import Admit
from appliance.llm.scheduler import Scheduler
from appliance.records import (
    Cancel,
    Detokenize,
    Event,
    Failed,
    Generate,
    SamplingParams,
    Text,
    TextPrompt,
    Tokenize,
    Tokens,
)
from appliance.workers.frames import HEADER, WorkerChannel, event_decoder

LIMITS = Limits(
    slots=2,
    cells=64,
    sequences=4,
    batch_tokens=32,
    busy_prefill_tokens=8,
    queue_requests=4,
    queue_tokens=1000,
)


class FaultyVocabulary(FakeVocabulary):
    """A vocabulary with a bug that one text brings to light."""

    def tokenize(self, text: str, *, add_bos: bool, parse_special: bool) -> list[int]:
        if text == "bug":
            raise ZeroDivisionError("a bug")
        return super().tokenize(text, add_bos=add_bos, parse_special=parse_special)


class Bench:
    """A preparation between a gateway's socket and an engine that nobody runs."""

    def __init__(self, gateway: socket.socket, worker: socket.socket) -> None:
        self._events = gateway.makefile("rb")
        self.engine = Engine(FakeBackend(), Scheduler(LIMITS), lambda event: None)
        preparer = Preparer(FaultyVocabulary(), context_length=16)
        self._channel = WorkerChannel(worker)
        self.preparation = Preparation(preparer, self.engine, self._channel, limit=64)

    def next_event(self) -> Event:
        (length,) = HEADER.unpack(self._events.read(HEADER.size))
        event: Event = event_decoder.decode(self._events.read(length))
        return event

    def close(self) -> None:
        self.preparation.finish()
        self._events.close()
        self._channel._stream.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    gateway, worker = socket.socketpair()
    with gateway, worker:
        gateway.settimeout(10)
        made = Bench(gateway, worker)
        yield made
        made.close()


def asking(id: int, text: str) -> Generate:
    return Generate(id=id, prompt=TextPrompt(text=text), sampling=SamplingParams())


def code(event: Event) -> str:
    assert isinstance(event, Failed)
    return unpack(event.error).detail_code


def test_a_request_is_handed_to_the_engine_as_tokens(bench: Bench) -> None:
    bench.preparation.submit(asking(1, "hi"))
    admit = bench.engine.inbox.get(timeout=10)
    assert isinstance(admit, Admit)
    assert (admit.id, admit.prompt[1:]) == (1, list(b"hi"))


def test_a_refusal_goes_straight_to_the_gateway(bench: Bench) -> None:
    bench.preparation.submit(asking(1, "x" * 16))
    event = bench.next_event()
    assert isinstance(event, Failed)
    assert (event.id, code(event)) == (1, "context_length_exceeded")


def test_a_bug_that_one_request_meets_does_not_end_the_others(bench: Bench) -> None:
    bench.preparation.submit(asking(1, "bug"))
    bench.preparation.submit(asking(2, "hi"))
    event = bench.next_event()
    assert isinstance(event, Failed)
    assert (event.id, code(event)) == (1, "internal_error")
    admit = bench.engine.inbox.get(timeout=10)
    assert isinstance(admit, Admit)
    assert admit.id == 2


def test_tokens_and_text_are_answered(bench: Bench) -> None:
    bench.preparation.submit(Tokenize(id=1, prompt=TextPrompt(text="hi")))
    bench.preparation.submit(Detokenize(id=2, tokens=tuple(b"ho")))
    tokens, text = bench.next_event(), bench.next_event()
    assert isinstance(tokens, Tokens)
    assert tokens.tokens[1:] == tuple(b"hi")
    assert text == Text(id=2, text="ho")


def test_a_cancelled_request_never_reaches_the_engine_or_is_taken_back_there(bench: Bench) -> None:
    for id in range(1, 40):
        bench.preparation.submit(asking(id, "hi"))
        bench.preparation.cancel(Cancel(id=id))
    bench.preparation.submit(asking(99, "hi"))
    admitted, cancelled = set(), set()
    while 99 not in admitted:
        command = bench.engine.inbox.get(timeout=10)
        if isinstance(command, Admit):
            admitted.add(command.id)
        elif isinstance(command, Cancel):
            assert command.id in admitted, "a cancellation must not overtake its request"
            cancelled.add(command.id)
    assert admitted - cancelled == {99}


def test_finishing_hands_everything_on_first(bench: Bench) -> None:
    for id in range(20):
        bench.preparation.submit(asking(id, "hi"))
    bench.preparation.finish()
    assert bench.engine.inbox.qsize() == 20
