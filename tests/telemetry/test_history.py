"""The server over time: what a sample says, what is kept, how far back one can look."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.records import Timings, Usage
from appliance.telemetry.history import COARSE_SAMPLES, FINE_SAMPLES, Gauges, Recorder


@dataclass
class Route:
    is_local: bool


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def answered(recorder: Recorder, *, is_local: bool = True, first: float = 0.1, tokens: int = 10) -> None:
    usage = Usage(prompt_tokens=5, completion_tokens=tokens)
    recorder.note_answer(Route(is_local), usage, Timings(queued=0.0, prefill=first, decode=1.0))


def test_a_sample_is_of_its_own_seconds() -> None:
    clock = Clock()
    recorder = Recorder(clock, lambda: clock.now + 1e9)
    answered(recorder, first=0.1)
    answered(recorder, first=0.3)
    answered(recorder, is_local=False, first=0.2, tokens=40)
    recorder.note_status(429)
    recorder.note_status(503)
    recorder.note_status(500)
    recorder.note_status(404)
    clock.now += 5
    recorder.take(Gauges(tokens=20, running=2, sessions=3))
    (sample,) = recorder.history(5).data
    assert (sample.answers, sample.local, sample.online, sample.failed, sample.refused) == (3, 2, 1, 1, 2)
    assert sample.tokens_per_second == 60 / 5
    assert (sample.first_token_p50, sample.first_token_p99) == (0.2, 0.3)
    assert (sample.latency_p50, sample.latency_p99) == (1.2, 1.3)
    assert (sample.running, sample.sessions, sample.time) == (2, 3, 1e9 + 1005)
    clock.now += 5
    recorder.take(Gauges(tokens=20))
    later = recorder.history(5).data[-1]
    assert (later.answers, later.tokens_per_second, later.first_token_p50) == (0, 0.0, None)


def test_an_hour_is_fine_and_a_day_is_coarse_and_both_are_bounded() -> None:
    clock = Clock()
    recorder = Recorder(clock, clock)
    for number in range(30_000):
        clock.now += 5
        recorder.take(Gauges(tokens=number * 10))
    hour, day = recorder.history(3600), recorder.history(86_400)
    assert (hour.step, len(hour.data)) == (5.0, FINE_SAMPLES)
    assert (day.step, len(day.data)) == (60.0, COARSE_SAMPLES)
    assert hour.data[-1].time == clock.now
    assert hour.data[-1].time - hour.data[0].time == 3595
    assert abs(day.data[-1].tokens_per_second - 2.0) < 1e-9
    assert len(recorder.history(600).data) == 120


def test_a_worker_that_began_anew_counts_no_tokens_backwards() -> None:
    clock = Clock()
    recorder = Recorder(clock, clock)
    clock.now += 5
    recorder.take(Gauges(tokens=100))
    clock.now += 5
    recorder.take(Gauges(tokens=10))
    assert recorder.history(5).data[-1].tokens_per_second == 0.0
