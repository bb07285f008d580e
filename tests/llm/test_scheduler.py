"""The scheduler's promises, under the engine and a backend that refuses what llama.cpp would.

The backend's next token is a checksum of all that its cache holds for the sequence: a wrong share, a missing
forget or a wrong position shows as another text.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from appliance.errors import ConfigError
from appliance.llm.fake import EOS, checksum_token
from appliance.llm.plan import Limits
from appliance.llm.scheduler import Scheduler
from appliance.records import Ended, Failed

BEGINNINGS = [b"", b"You are a helpful assistant. " * 2, b"You are a helpful poet. ", b"x" * 60]


def sometimes_ends(history: Any) -> int:
    token = checksum_token(history)
    return EOS if token == 122 and len(history) % 2 else token


def repetitive(history: Any) -> int:
    """Depends on all of the history, but mostly says what it said before: drafts are often right."""
    token = sometimes_ends(history)
    return 97 + len(history) % 5 if token < 118 else token


def machine(rig: Any) -> type[RuleBasedStateMachine]:
    class Operations(RuleBasedStateMachine):
        """Requests come, leave and are computed in any order, in tight and in roomy caches."""

        @initialize(
            slots=st.integers(1, 5),
            cells=st.sampled_from([96, 128, 256, 1024]),
            spare=st.integers(0, 4),
            batch=st.sampled_from([5, 16, 64]),
            queue=st.sampled_from([0, 3, 1000]),
            drafts=st.booleans(),
            memory=st.sampled_from([0, 200, 100_000]),
        )
        def begin(
            self, slots: int, cells: int, spare: int, batch: int, queue: int, drafts: bool, memory: int
        ) -> None:
            self.rig = rig(
                slots=slots,
                cells=cells,
                sequences=slots + spare,
                batch_tokens=batch,
                busy_prefill_tokens=max(1, batch // 4),
                queue_requests=queue,
                drafts=drafts,
                memory=memory,
                busy_copy_bytes=64,
                answer=repetitive if drafts else sometimes_ends,
            )
            self.asked: dict[int, tuple[bytes, int, int]] = {}
            self.cancelled: set[int] = set()

        @rule(
            beginning=st.sampled_from(BEGINNINGS),
            tail=st.binary(min_size=1, max_size=30),
            most=st.integers(1, 50),
            choices=st.integers(1, 4),
            whose=st.sampled_from([("default", "", ""), ("default", "a", "x"), ("batch", "b", "x")]),
        )
        def ask(
            self, beginning: bytes, tail: bytes, most: int, choices: int, whose: tuple[str, str, str]
        ) -> None:
            id = len(self.asked) + 1
            self.asked[id] = (beginning + tail, most, choices)
            klass, owner, namespace = whose
            self.rig.ask(
                id,
                beginning + tail,
                most,
                choices=choices,
                scheduling_class=klass,
                owner=owner,
                namespace=namespace,
            )

        @rule()
        def rest(self) -> None:
            """The engine has nothing to do for a moment."""
            if self.rig.scheduler.is_idle:
                while self.rig.engine.rest():
                    pass

        @rule()
        def lose_a_block(self) -> None:
            """A stored block turns out to be gone."""
            if self.rig.store._contents:
                self.rig.store._contents.pop(next(iter(self.rig.store._contents)))

        @rule(data=st.data())
        def ask_again(self, data: st.DataObject) -> None:
            """The next turn of an earlier conversation, or the same prompt once more."""
            if self.asked:
                prompt, most, _ = self.asked[data.draw(st.sampled_from(sorted(self.asked)))]
                answer = self.rig.alone(prompt, most).encode()
                longer = prompt + answer + data.draw(st.sampled_from([b"", b" And then?"]))
                self.ask(b"", longer[: self.rig.limits.cells - 1], 12, 1, ("default", "", ""))

        @rule(data=st.data())
        def cancel(self, data: st.DataObject) -> None:
            if self.asked:
                id = data.draw(st.sampled_from(sorted(self.asked)))
                self.cancelled.add(id)
                self.rig.cancel(id)

        @rule(count=st.integers(1, 12))
        def step(self, count: int) -> None:
            self.rig.step(count)

        @invariant()
        def nothing_leaks(self) -> None:
            if hasattr(self, "rig"):
                self.rig.engine.check()

        def teardown(self) -> None:
            if not hasattr(self, "rig"):
                return
            self.rig.run()
            for id, (prompt, most, choices) in self.asked.items():
                (end,) = self.rig.ends(id)
                expected = self.rig.alone(prompt, most)
                for choice in range(choices):
                    text = self.rig.text(id, choice)
                    assert expected.startswith(text)
                    assert text == expected or isinstance(end, Failed)
                if isinstance(end, Failed):
                    assert end.error["kind"] in ("Cancelled", "Overloaded")
                    assert end.error["kind"] != "Cancelled" or id in self.cancelled
            assert all(sampler.closed for sampler in self.rig.samplers)
            assert not self.rig.scheduler.running
            assert self.rig.scheduler.waiting.tokens == 0

    return Operations


def test_promises_hold_under_any_sequence_of_operations(rig: Any) -> None:
    run_state_machine_as_test(
        machine(rig),
        settings=settings(
            max_examples=60,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.parametrize("cells", [128, 160, 4096])
def test_text_in_company_is_the_text_alone(rig: Any, cells: int) -> None:
    r = rig(slots=4, cells=cells, batch_tokens=16)
    prompts = {id: f"You are a helpful assistant number {id % 3}. {id}" for id in range(1, 13)}
    for id, prompt in prompts.items():
        r.ask(id, prompt, 40)
    r.run()
    for id, prompt in prompts.items():
        assert r.text(id) == r.alone(prompt, 40)
        assert r.reason(id) == "length"


def test_scarce_cells_preempt_the_youngest_and_lose_nothing(rig: Any) -> None:
    r = rig(slots=3, cells=100, batch_tokens=32)
    for id in (1, 2, 3):
        r.ask(id, f"{id}-prompt", 60)
    r.run()
    assert r.scheduler.preemptions > 0
    assert all(r.text(id) == r.alone(f"{id}-prompt", 60) for id in (1, 2, 3))
    ended = [event.id for event in r.events if isinstance(event, Ended)]
    assert ended[0] == 1, "the oldest is never preempted, so it ends first"
    assert len(r.samplers) == 3, "a preempted answer keeps its sampler and its random state"


def test_preemption_does_not_thrash(rig: Any) -> None:
    r = rig(slots=4, cells=200, batch_tokens=64)
    for id in range(1, 9):
        r.ask(id, f"{id}" * 10, 90)
    r.run()
    useful = sum(len(str(id)) * 10 + 90 - 1 for id in range(1, 9))
    assert r.backend.computed_tokens < 2 * useful


def test_choices_share_one_computation_of_the_prompt(rig: Any) -> None:
    r = rig(slots=4, cells=1024, batch_tokens=64)
    prompt = "Tell me a story about a lighthouse keeper and her three cats. " * 4
    r.ask(1, prompt, 10, choices=4)
    r.run()
    # The prompt once, its last token once more for each further choice, and 9 of the 10 answer tokens each.
    assert r.backend.computed_tokens == len(prompt) + 3 + 4 * 9
    assert all(r.text(1, choice) == r.alone(prompt, 10) for choice in range(4))
    assert r.started(1).cached_tokens == 0


def test_requests_that_arrive_together_compute_their_common_beginning_once(rig: Any) -> None:
    r = rig(slots=8, cells=2048, sequences=16, batch_tokens=64)
    beginning = "A long system prompt that all of them have. " * 5
    for id in range(1, 9):
        r.ask(id, beginning + f"question {id}", 5)
    r.run()
    common = len(beginning + "question ")
    assert r.backend.computed_tokens == common + 8 * (1 + 4)
    for id in range(1, 9):
        assert r.text(id) == r.alone(beginning + f"question {id}", 5)
    assert sum(r.started(id).cached_tokens == common for id in range(1, 9)) == 7


def test_a_conversation_computes_only_what_is_new(rig: Any) -> None:
    r = rig(cells=1024)
    history = "user: a first question, not too short\nassistant:"
    for id in range(1, 6):
        before = r.backend.computed_tokens
        r.ask(id, history, 20)
        r.run()
        new = len(history) - r.started(id).cached_tokens
        assert r.backend.computed_tokens - before == new + 19
        if id > 1:
            assert new == len("\nuser: and then?\nassistant:") + 1, (
                "the last answer's last token, and the new turn"
            )
        history += r.text(id) + "\nuser: and then?\nassistant:"
    assert len(r.scheduler.cache.retained) == 1, "a conversation's next turn takes over what it continues"


def test_a_prompt_as_long_as_the_cache_fits_beside_a_longer_retained_one(rig: Any) -> None:
    """The retained sequence that it shares a little with must give up the rest."""
    r = rig(cells=128, slots=2, sequences=4)
    r.ask(1, "common beginning " + "a" * 90, 20)
    r.run()
    second = "common beginning " + "b" * 100
    r.ask(2, second, 8)
    r.run(200)
    assert r.text(2) == r.alone(second, 8)
    assert r.started(2).cached_tokens == len("common beginning ")


def test_one_slot_and_one_cache_sequence_suffice(rig: Any) -> None:
    r = rig(cells=128, slots=1, sequences=1)
    for id in range(1, 5):
        r.ask(id, "the same beginning for all, " + "z" * id, 6)
    r.run(400)
    assert all(r.text(id) == r.alone("the same beginning for all, " + "z" * id, 6) for id in range(1, 5))


def test_an_admission_that_must_wait_evicts_nothing(rig: Any) -> None:
    r = rig(cells=256, slots=4, sequences=8)
    r.ask(1, "retained for a follow-up question", 8)
    r.run()
    r.ask(2, "r" * 100, 80)
    r.step(20)
    r.ask(3, "w" * 150, 8)  # will not fit before 2 has ended
    r.step(5)
    assert len(r.scheduler.waiting) == 1
    assert len(r.scheduler.cache.retained) == 1
    r.run()
    assert r.text(3) == r.alone("w" * 150, 8)


def test_decoding_streams_are_in_every_step_while_a_long_prompt_arrives(rig: Any) -> None:
    r = rig(slots=4, cells=2048, batch_tokens=64, busy_prefill_tokens=16)
    for id in (1, 2, 3):
        r.ask(id, f"stream {id}", 100)
    r.step(4)
    r.ask(4, "p" * 400, 4)
    for _ in range(20):
        before = [len(r.deltas(id)) for id in (1, 2, 3)]
        r.step()
        assert [len(r.deltas(id)) for id in (1, 2, 3)] == [n + 1 for n in before]
    r.run()
    assert r.text(4) == r.alone("p" * 400, 4)


def test_drafts_save_steps_and_change_nothing(rig: Any) -> None:
    r = rig(slots=2, cells=1024, batch_tokens=64, drafts=True, answer=repetitive)
    for id in (1, 2):
        r.ask(id, f"abcdeabcdeabcde {id}", 60)
    r.run()
    for id in (1, 2):
        assert r.text(id) == r.alone(f"abcdeabcdeabcde {id}", 60)
    assert r.backend.steps < 56, "60 tokens each in fewer steps"


def test_the_queue_is_bounded_even_when_all_arrive_at_once(rig: Any) -> None:
    r = rig(slots=2, queue_requests=3)
    for id in range(1, 11):
        r.ask(id, f"{id}", 4)
    r.run()
    refused = [id for id in range(1, 11) if isinstance(r.ends(id)[0], Failed)]
    assert refused == [6, 7, 8, 9, 10]
    assert r.error(6)["kind"] == "Overloaded"
    assert r.error(6)["retry_after"]


def test_the_queue_is_bounded_in_tokens_but_takes_one_long_prompt(rig: Any) -> None:
    r = rig(slots=1, cells=512, queue_tokens=50)
    r.ask(1, "a" * 200, 2)
    r.ask(2, "b" * 10, 2)
    r.run()
    assert isinstance(r.ends(1)[0], Ended)
    assert r.error(2)["kind"] == "Overloaded"


def test_eviction_takes_the_one_longest_unused(rig: Any) -> None:
    r = rig(cells=120, slots=1, sequences=8)
    r.ask(1, "first prompt of some length", 4)
    r.run()
    r.ask(2, "second prompt, another one", 4)
    r.run()
    r.ask(3, "first prompt of some length" + " - again", 4)  # uses the first's cells anew
    r.run()
    r.ask(4, "q" * 60, 4)  # needs room: the second must go
    r.run()
    kept = [bytes(held.tokens[:6]) for held in r.scheduler.cache.retained.values()]
    assert b"first " in kept
    assert b"second" not in kept


@pytest.mark.parametrize(("batch_tokens", "sequences"), [(4, 16), (64, 4)])
def test_limits_that_cannot_be_kept_are_refused(batch_tokens: int, sequences: int) -> None:
    with pytest.raises(ConfigError, match=r"generator\.slots"):
        Scheduler(
            Limits(
                slots=8,
                cells=64,
                sequences=sequences,
                batch_tokens=batch_tokens,
                busy_prefill_tokens=4,
                queue_requests=1,
                queue_tokens=1,
            )
        )


def test_what_is_retained_moves_out_of_the_way_of_those_who_decode_and_comes_back(rig: Any) -> None:
    r = rig(slots=2, cells=2048, sequences=8, batch_tokens=64, memory=1_000_000)
    first = "An old conversation that is long enough to weigh on others. " * 8
    r.ask(1, first, 4)
    r.run()
    r.ask(2, "another matter", 60)
    r.step(40)
    assert not r.scheduler.cache.retained, "it weighed on the other's steps"
    r.run()
    before = r.backend.computed_tokens
    r.ask(3, first + "And now?", 4)
    r.run()
    assert r.text(3) == r.alone(first + "And now?", 4)
    assert r.started(3).cached_tokens >= len(first)
    assert r.backend.computed_tokens - before < 30


def test_stored_beginnings_are_shared_with_those_who_run(rig: Any) -> None:
    r = rig(slots=4, cells=2048, sequences=8, batch_tokens=64, memory=1_000_000)
    system = "A system prompt of several blocks. " * 4
    for id in (1, 2):
        r.ask(id, system + f"turn one of {id}: " + f"{id}" * 80, 4)
        r.run()
    while r.engine.rest():
        pass
    for slot in list(r.scheduler.cache.retained):
        r.scheduler.cache._drop(slot, r.scheduler.cache.retained.pop(slot).cells)
    for id in (1, 2):
        r.ask(id + 2, system + f"turn one of {id}: " + f"{id}" * 80 + " more", 30)
        r.step(3)
    used = r.scheduler.ledger.used
    r.run()
    assert used < len(system) + 2 * 150, "the system prompt is there once"
    assert all(
        r.text(id + 2) == r.alone(system + f"turn one of {id}: " + f"{id}" * 80 + " more", 30)
        for id in (1, 2)
    )


def test_a_short_prompt_does_not_wait_behind_a_long_one(rig: Any) -> None:
    r = rig(slots=4, cells=4096, batch_tokens=64)
    r.ask(1, "l" * 1500, 4)
    r.step()
    r.ask(2, "short", 4)
    r.step(2)
    assert r.deltas(2), "it has its first token while the long one is still being computed"
    assert not r.deltas(1)
    r.run()
    assert r.text(1) == r.alone("l" * 1500, 4)


def test_many_short_prompts_get_as_much_of_a_step_as_there_are_of_them(rig: Any) -> None:
    def steps_to_all_first_tokens(length: int) -> int:
        r = rig(slots=12, cells=4096, sequences=16, batch_tokens=64, busy_prefill_tokens=8)
        r.ask(0, "one that is answered already", 80)
        r.step(2)
        for id in range(1, 12):
            r.ask(id, chr(96 + id) * length, 80)
        for step in range(1, 800):
            r.step()
            if all(r.deltas(id) for id in range(1, 12)):
                return step
        raise AssertionError("they wait for ever")

    assert steps_to_all_first_tokens(30) <= 15, "a share of 8 a step would take 42 of them"
    assert steps_to_all_first_tokens(300) > 200, "no step could do one of these: they get the share of 8"


def test_what_is_stored_makes_way_for_a_prompt_that_shares_nothing_with_it(rig: Any) -> None:
    r = rig(slots=2, cells=2048, sequences=8, batch_tokens=64, memory=1_000_000)
    first = "A conversation that is over, and long enough to be in the way. " * 8
    r.ask(1, first, 4)
    r.run()
    while r.engine.rest():
        pass
    r.ask(2, "n" * 200, 4)
    r.step()
    assert r.scheduler.ledger.used <= 64, "the new prompt's cells alone"
    r.run()
    r.ask(3, first + "And now?", 4)
    r.run()
    assert r.text(3) == r.alone(first + "And now?", 4)
    assert r.started(3).cached_tokens >= len(first) - 8


def test_a_higher_class_takes_the_slot_of_a_batch_job_which_goes_on_later(rig: Any) -> None:
    r = rig(slots=2, cells=1024, batch_tokens=64)
    for id in (1, 2):
        r.ask(id, f"batch job {id}", 100, scheduling_class="batch")
    r.step(10)
    r.ask(3, "somebody waits for this", 5)
    r.step(12)
    assert r.ends(3)
    assert not r.ends(1)
    r.run()
    for id in (1, 2):
        assert r.text(id) == r.alone(f"batch job {id}", 100)
    assert len(r.samplers) == 3


def test_namespaces_share_no_cells(rig: Any) -> None:
    r = rig(slots=2, cells=1024, memory=100_000)
    prompt = "the same prompt for two who must not learn of each other"
    for id, namespace in ((1, "a"), (2, "b"), (3, "a")):
        r.ask(id, prompt, 4, namespace=namespace)
        r.run()
    assert r.started(2).cached_tokens == 0
    assert r.started(3).cached_tokens > 40
