"""The engine: one end per request, whatever happens, and what a client sees on the way."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from appliance.errors import InternalError
from appliance.llm.backend import Span
from appliance.llm.draft import LONGEST_DRAFT, MOST_ROWS
from appliance.llm.fake import EOS, FakeBackend, checksum_token
from appliance.llm.writer import CIRCLES_CUT
from appliance.records import Accepted, Ended, Failed, Measure, Started, Step, Stop, WorkerStats


def writes(words: str) -> Any:
    """A backend's answer that writes `words` after any prompt that ends in `>`, then ends."""
    raw = words.encode()

    def answer(history: Sequence[int]) -> int:
        done = len(history) - 1 - list(history).index(ord(">"))
        return raw[done] if done < len(raw) else EOS

    return answer


def test_events_come_in_order_and_add_up(rig: Any) -> None:
    r = rig()
    r.ask(1, "prompt", 5)
    r.run()
    kinds = [type(event) for event in r.events]
    assert kinds == [Accepted, Started, *[Step] * 5, Ended]
    assert r.started(1).prompt_tokens == 6
    (end,) = r.ends(1)
    assert (end.usage.prompt_tokens, end.usage.completion_tokens, end.usage.cached_tokens) == (6, 5, 0)


def test_one_frame_per_step_carries_every_stream(rig: Any) -> None:
    r = rig(slots=3)
    for id in (1, 2, 3):
        r.ask(id, f"{id}", 6)
    r.run()
    steps = [event for event in r.events if isinstance(event, Step)]
    assert len(steps) == r.backend.steps == 6
    assert all(sorted(d.id for d in step.deltas) == [1, 2, 3] for step in steps)


def test_an_answer_that_ends_itself_stops(rig: Any) -> None:
    r = rig(answer=writes("hello"))
    r.ask(1, "say>", 50)
    r.run()
    assert (r.text(1), r.reason(1)) == ("hello", "stop")
    assert r.ends(1)[0].usage.completion_tokens == 6, "the end-of-generation token was computed too"


def test_an_answer_that_goes_in_circles_is_ended_with_a_warning(rig: Any) -> None:
    circling = writes("".join(f"{number}. Read what is written here.\n" for number in range(1, 90)))
    r = rig(answer=circling, cells=4096)
    r.ask(1, "say>", 2000)
    r.ask(2, "say>", 2000, ignore_eos=True)
    r.run()
    assert r.reason(1) == "length"
    assert len(r.text(1)) < 400
    assert [delta.warnings for delta in r.deltas(1) if delta.finish_reason] == [(CIRCLES_CUT,)]
    assert len(r.text(2)) >= 2000, "whoever wants no end gets none"


def test_circles_may_be_let_go_on(rig: Any) -> None:
    r = rig(answer=writes("the same words again " * 40), cells=2048)
    r.engine.ends_circles = False
    r.ask(1, "say>", 2000)
    r.run()
    assert r.reason(1) == "stop"
    assert r.text(1).count("again") == 40


def test_ignore_eos_goes_on_to_the_limit(rig: Any) -> None:
    r = rig(answer=writes("hello"))
    r.ask(1, "say>", 8, ignore_eos=True)
    r.run()
    assert (r.text(1), r.reason(1)) == ("hello", "length")
    assert r.ends(1)[0].usage.completion_tokens == 8


@pytest.mark.parametrize(
    ("stop", "text", "reason"),
    [
        (("world",), "hello ", "stop"),
        (("xyz", "lo w"), "hel", "stop"),
        (("nowhere",), "hello world. 你好。", "stop"),
        (("。",), "hello world. 你好", "stop"),
        (("。再见",), "hello world. 你好。", "stop"),
    ],
)
def test_stop_strings(rig: Any, stop: tuple[str, ...], text: str, reason: str) -> None:
    r = rig(answer=writes("hello world. 你好。"))
    r.ask(1, "say>", 60, stop=stop)
    r.run()
    assert (r.text(1), r.reason(1)) == (text, reason)
    assert len(r.ends(1)) == 1


def test_the_length_limit_shows_what_was_held_back_for_a_stop_string(rig: Any) -> None:
    r = rig(answer=writes("hello world"))
    r.ask(1, "say>", 8, stop=("world!",))
    r.run()
    assert (r.text(1), r.reason(1)) == ("hello wo", "length")


def test_a_character_cut_by_the_limit_is_replaced_and_none_is_split_before(rig: Any) -> None:
    r = rig(answer=writes("你好"))
    r.ask(1, "say>", 4)
    r.run()
    assert [d.text for d in r.deltas(1)] == ["", "", "你", "�"]


@pytest.mark.parametrize("steps", range(14))
def test_cancelling_ends_a_request_once_at_any_moment(rig: Any, steps: int) -> None:
    r = rig(slots=2, batch_tokens=8, busy_prefill_tokens=4)
    for id in (1, 2, 3):
        r.ask(id, "a prompt of some length" + str(id), 4, choices=id)
    r.step(steps)
    for id in (1, 2, 3):
        r.cancel(id)
        r.cancel(id)
    r.cancel(99)
    r.step()
    assert all(len(r.ends(id)) == 1 for id in (1, 2, 3)), "gone within one step"
    assert r.scheduler.is_idle
    assert all(sampler.closed for sampler in r.samplers)
    r.ask(4, "the engine goes on", 5)
    r.run()
    assert r.text(4) == r.alone("the engine goes on", 5)


def test_a_deadline_ends_a_request_running_or_waiting(rig: Any) -> None:
    r = rig(slots=1)
    r.ask(1, "running", 100, deadline=r.now + 5)
    r.ask(2, "waiting", 100, deadline=r.now + 3)
    r.ask(3, "patient", 4)
    r.step(3)
    r.now += 4
    r.step()
    assert r.ends(1) == []
    assert r.error(2)["kind"] == "DeadlineExceeded"
    r.now += 2
    r.step()
    assert r.error(1)["kind"] == "DeadlineExceeded"
    r.run()
    assert r.text(3) == r.alone("patient", 4)


def test_timings_tell_queue_prefill_and_decode_apart(rig: Any) -> None:
    r = rig(slots=1, batch_tokens=4, busy_prefill_tokens=4)
    r.ask(1, "12345678", 3)
    for _ in range(6):
        r.now += 1
        r.step()
    (end,) = r.ends(1)
    assert (end.timings.queued, end.timings.prefill, end.timings.decode) == (1.0, 1.0, 2.0)


def test_stop_finishes_what_is_there_and_refuses_what_comes(rig: Any) -> None:
    r = rig(slots=1)
    r.ask(1, "running", 10)
    r.ask(2, "waiting", 10)
    r.step(2)
    r.engine.inbox.put(Stop())
    r.ask(3, "late", 10)
    r.engine.run()
    assert r.text(1) == r.alone("running", 10)
    assert r.text(2) == r.alone("waiting", 10)
    assert r.error(3)["kind"] == "Draining"


def test_an_idle_engine_waits_for_its_inbox_and_stops_when_told(rig: Any) -> None:
    r = rig()
    thread = threading.Thread(target=r.engine.run)
    thread.start()
    r.ask(1, "hello", 3)
    r.engine.inbox.put(Measure(id=2))
    r.engine.inbox.put(Stop())
    thread.join(10)
    assert not thread.is_alive()
    assert r.text(1) == r.alone("hello", 3)


def test_a_refused_batch_ends_its_requests_and_no_others(rig: Any) -> None:
    r = rig(slots=2)
    r.ask(1, "the first prompt", 20)
    r.ask(2, "the second prompt", 20, choices=2)
    r.ask(3, "waits for a slot", 6)
    r.step(6)
    watch = r.backend.before_decode

    def refuse(spans: Sequence[Span]) -> None:
        raise InternalError("llama_decode answered -3")

    r.backend.before_decode = refuse
    r.step()
    r.backend.before_decode = watch
    assert r.error(1)["kind"] == "InternalError"
    assert r.error(2)["kind"] == "InternalError"
    assert r.scheduler.cache.retained == {}, "nobody knows what the cache holds after a refusal"
    r.ask(4, "the first prompt", 6)
    r.run()
    assert r.text(3) == r.alone("waits for a slot", 6)
    assert r.text(4) == r.alone("the first prompt", 6)


def test_three_refusals_in_a_row_end_the_process(rig: Any) -> None:
    r = rig(slots=1)

    def refuse(spans: Sequence[Span]) -> None:
        raise InternalError("llama_decode answered -3")

    r.backend.before_decode = refuse
    for id in range(1, 6):
        r.ask(id, f"{id}", 6)
    r.step(2)
    with pytest.raises(InternalError, match="-3"):
        r.step()
    assert [len(r.ends(id)) for id in range(1, 4)] == [1, 1, 1]


def test_choices_differ_by_seed_and_repeat_with_it(rig: Any) -> None:
    def answers(seed: int) -> list[str]:
        r = rig(slots=4, cells=1024)
        r.ask(1, "roll the dice", 12, choices=3, seed=seed, temperature=8.0)
        r.run()
        return [r.text(1, choice) for choice in range(3)]

    assert answers(7) == answers(7)
    assert len(set(answers(7))) == 3
    assert answers(7)[1] == answers(8)[0], "choice n of seed s is choice 0 of seed s + n"


def test_seeded_answers_are_the_same_alone_and_preempted_in_company(rig: Any) -> None:
    alone = rig(slots=1, cells=1024)
    alone.ask(9, "roll the dice", 40, seed=5, temperature=4.0)
    alone.run()
    r = rig(slots=4, cells=110)
    for id in (1, 2):
        r.ask(id, f"company {id}", 60)
    r.ask(9, "roll the dice", 40, seed=5, temperature=4.0)
    r.run()
    assert r.scheduler.preemptions
    assert r.text(9) == alone.text(9)


def test_logprobs_are_of_the_chosen_token_and_its_rivals(rig: Any) -> None:
    r = rig(answer=writes("hi"))
    r.ask(1, "say>", 5, top_logprobs=3)
    r.run()
    first, second, end = r.deltas(1)
    (logprob,) = first.logprobs
    expected = 8 - np.log(np.exp(8) + FakeBackend().vocabulary.size - 1)
    assert logprob.token == ord("h")
    assert logprob.raw == b"h"
    assert logprob.logprob == pytest.approx(expected)
    assert len(logprob.top) == 3
    assert logprob.top[0].token == ord("h")
    assert second.logprobs[0].top[0].raw == b"i"
    assert end.logprobs == (), "the end of generation is no token of the answer"


def test_without_logprobs_none_are_computed(rig: Any) -> None:
    r = rig()
    r.ask(1, "prompt", 3)
    r.run()
    assert all(delta.logprobs == () for delta in r.deltas(1))


def test_logit_bias_reaches_the_sampler(rig: Any) -> None:
    r = rig()
    r.ask(1, "prompt", 3, logit_bias={ord("!"): 100.0})
    r.run()
    assert r.text(1) == "!!!"


def test_stats_count_what_was_done(rig: Any) -> None:
    r = rig(slots=2, cells=512)
    r.ask(1, "the very same prompt", 5)
    r.run()
    for id in (2, 3, 4):
        r.ask(id, "the very same prompt", 5)
    r.step()
    r.engine.inbox.put(Measure(id=77))
    r.step()
    (stats,) = [event for event in r.events if isinstance(event, WorkerStats)]
    assert (stats.id, stats.running, stats.waiting, stats.slots, stats.cells) == (77, 2, 1, 2, 512)
    assert (stats.prompt_tokens, stats.cached_tokens) == (60, 38)
    assert stats.cells_used == r.backend.used_cells - 2, "both streams computed a token since"


def test_every_prompt_token_is_computed_before_the_first_answer_token(rig: Any) -> None:
    seen: list[list[int]] = []

    def answer(history: Sequence[int]) -> int:
        seen.append(list(history))
        return checksum_token(history)

    r = rig(batch_tokens=4, busy_prefill_tokens=2, answer=answer)
    r.ask(1, "0123456789", 2)
    r.run()
    assert bytes(seen[0]) == b"0123456789"


def test_one_failed_request_is_told_its_kind_and_its_code(rig: Any) -> None:
    r = rig(slots=1, queue_requests=0)
    r.ask(1, "one", 50)
    r.ask(2, "two", 50)
    r.step()
    (refusal,) = [event for event in r.events if isinstance(event, Failed)]
    assert refusal.id == 2
    assert refusal.error["code"] == "queue_full"


@pytest.mark.parametrize("period", [3, 7, 20])
def test_drafts_change_the_steps_and_never_the_text(rig: Any, period: int) -> None:
    def repeating(history: Sequence[int]) -> int:
        return 97 + len(history) % period

    answers, steps = [], []
    for drafts in (False, True):
        r = rig(cells=512, answer=repeating, drafts=drafts)
        r.ask(1, "a prompt of no importance", 90)
        r.ask(2, "another prompt, longer than the first", 60)
        r.run()
        answers.append([r.text(1), r.text(2)])
        steps.append(r.backend.steps)
    assert answers[0] == answers[1]
    assert steps[1] < 0.7 * steps[0]


def test_drafts_share_the_rows_of_a_step_and_stay_off_when_it_is_full(rig: Any) -> None:
    def repeating(history: Sequence[int]) -> int:
        return 97 + len(history) % 3

    def most_rows(streams: int) -> int:
        r = rig(slots=30, sequences=40, cells=4096, batch_tokens=64, answer=repeating, drafts=True)
        seen = []
        watch = r.backend.before_decode

        def look(spans: Sequence[Any]) -> None:
            watch(spans)
            seen.append(sum(span.rows for span in spans))

        r.backend.before_decode = look
        for id in range(1, streams + 1):
            r.ask(id, "abc" * 4, 60)
        r.run()
        return max(seen[3:])  # the first one, whose beginning the others wait for, is alone with its draft

    assert most_rows(1) == 1 + LONGEST_DRAFT
    assert 16 < most_rows(5) <= MOST_ROWS
    assert most_rows(26) == 26
