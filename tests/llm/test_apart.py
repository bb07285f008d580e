"""Requests that ask to be computed apart: by an engine of their own, one at a time, beside the others."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.errors import Unavailable
from appliance.llm.backend import Span
from appliance.llm.engine import Engine
from appliance.llm.fake import FakeBackend
from appliance.llm.scheduler import Limits, Scheduler
from appliance.records import Measure, Stop, WorkerStats
from tests.llm.conftest import Rig

PIECE = 8
PROMPT = "a prompt of some forty tokens, for every one"


class Pair:
    """A rig whose engine starts engines apart, and the spans that those compute."""

    def __init__(self) -> None:
        self.rig = Rig(slots=4, cells=256)
        self.backends: list[Any] = []
        self.spans: list[Span] = []
        self.closed = 0
        self.rig.engine.start_apart = self._start

    def _start(self) -> Engine:
        backend = FakeBackend(cells=256, sequences=8, answer=self.rig.answer)
        backend.before_decode = self.spans.extend
        backend.close = self._count  # type: ignore[method-assign]
        limits = Limits(1, 256, 8, PIECE, PIECE, 100, 10_000)
        engine = self.rig.engine
        return Engine(
            backend, Scheduler(limits), engine.emit, engine.clock, totals=engine.totals, retains=False
        )

    def _count(self) -> None:
        self.closed += 1

    def run(self, most_steps: int = 2000) -> None:
        for _ in range(most_steps):
            if self.rig.engine.is_idle and self.rig.engine.inbox.empty():
                return
            self.rig.engine.take_commands()
            self.rig.engine.step()
        pytest.fail("not idle")


def test_the_text_is_the_right_one_and_the_cache_is_given_back() -> None:
    pair = Pair()
    pair.rig.ask(1, PROMPT, deterministic=True)
    pair.run()
    assert pair.rig.text(1) == pair.rig.alone(PROMPT, 8)
    assert pair.closed == 1


def test_company_does_not_change_what_is_computed() -> None:
    lonely, pair = Pair(), Pair()
    lonely.rig.ask(1, PROMPT, deterministic=True)
    lonely.run()
    for id in range(2, 6):
        pair.rig.ask(id, PROMPT + str(id), 30)
    pair.rig.step(5)
    pair.rig.ask(1, PROMPT, deterministic=True)
    pair.run()
    assert pair.spans == lonely.spans
    assert all(pair.rig.text(id) == pair.rig.alone(PROMPT + str(id), 30) for id in range(2, 6))


def test_the_same_prompt_twice_is_computed_twice() -> None:
    pair = Pair()
    for id in (1, 2):
        pair.rig.ask(id, PROMPT, deterministic=True)
    pair.run()
    half = len(pair.spans) // 2
    assert [span.tokens for span in pair.spans[:half]] == [span.tokens for span in pair.spans[half:]]
    assert pair.rig.started(2).cached_tokens == 0


def test_one_is_computed_at_a_time() -> None:
    pair = Pair()
    pair.rig.ask(1, PROMPT, deterministic=True)
    pair.rig.ask(2, PROMPT[::-1], deterministic=True, choices=2)
    seen: list[list[Span]] = []
    start = pair._start

    def watched() -> Engine:
        engine = start()
        engine.backend.before_decode = lambda spans: seen.append(list(spans))  # type: ignore[attr-defined]
        return engine

    pair.rig.engine.start_apart = watched
    pair.run()
    assert all(len(spans) == 1 for spans in seen)
    assert pair.rig.reason(2, 1) == "length"


def test_a_cancelled_one_ends_and_frees_the_cache() -> None:
    pair = Pair()
    pair.rig.ask(1, PROMPT, deterministic=True)
    pair.rig.engine.take_commands()
    pair.rig.engine.step()
    pair.rig.cancel(1)
    pair.run()
    assert pair.rig.error(1)["kind"] == "Cancelled"
    assert pair.closed == 1


def test_a_deadline_holds() -> None:
    pair = Pair()
    pair.rig.ask(1, PROMPT, deterministic=True, deadline=101.0)
    pair.rig.engine.take_commands()
    pair.rig.now = 102.0
    pair.run()
    assert pair.rig.error(1)["kind"] == "DeadlineExceeded"


def test_without_memory_only_the_request_fails() -> None:
    pair = Pair()

    def refuse() -> Engine:
        raise Unavailable("no memory")

    pair.rig.engine.start_apart = refuse
    pair.rig.ask(1, PROMPT, deterministic=True)
    pair.rig.ask(2, PROMPT)
    pair.run()
    assert pair.rig.error(1)["kind"] == "Unavailable"
    assert pair.rig.text(2) == pair.rig.alone(PROMPT, 8)


def test_a_stop_waits_for_it_and_figures_count_it() -> None:
    pair = Pair()
    pair.rig.ask(1, PROMPT, deterministic=True)
    pair.rig.engine.take_commands()
    pair.rig.engine.step()
    pair.rig.engine.inbox.put(Measure(id=9))
    pair.rig.engine.inbox.put(Stop())
    pair.rig.engine.run()
    assert pair.rig.reason(1) == "length"
    [stats] = [event for event in pair.rig.events if isinstance(event, WorkerStats)]
    assert stats.running == 1
