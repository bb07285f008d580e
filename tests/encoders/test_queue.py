from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.encoders.queue import Batch, BatchQueue
from appliance.errors import Overloaded, PayloadTooLarge


def make_queue(batch_tokens: int = 512, requests: int = 1000, tokens: int = 1_000_000) -> BatchQueue:
    return BatchQueue(batch_tokens=batch_tokens, requests=requests, tokens=tokens)


def drain(queue: BatchQueue) -> list[Batch]:
    batches = []
    while (batch := queue.next_batch()) is not None:
        batches.append(batch)
        queue.settle(batch)
    return batches


lengths = st.lists(st.integers(1, 700), min_size=1, max_size=40)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("admit"), st.sampled_from(["a", "b"]), lengths),
        st.tuples(st.just("cancel"), st.integers(0, 10), st.none()),
        st.tuples(st.just("batch"), st.none(), st.none()),
        st.tuples(st.just("settle"), st.none(), st.none()),
    ),
    max_size=40,
)


@given(steps=steps, batch_tokens=st.integers(1, 2000))
def test_every_row_is_computed_once_and_every_request_ends_once(steps, batch_tokens):
    queue = make_queue(batch_tokens)
    admitted: dict[int, tuple[str, list[int]]] = {}
    cancelled: set[int] = set()
    ended: Counter[int] = Counter()
    computed: Counter[tuple[int, int]] = Counter()
    under_way: list[Batch] = []

    def take() -> bool:
        batch = queue.next_batch()
        if batch is None:
            return False
        under_way.append(batch)
        assert len(batch.places) == 1 or batch.padded_tokens <= batch_tokens
        for place in batch.places:
            lane, request_lengths = admitted[place.request]
            assert lane == batch.lane
            assert request_lengths[place.index] == place.length
            assert place.request not in cancelled
            computed[place.request, place.index] += 1
        return True

    for action, argument, request_lengths in steps:
        match action:
            case "admit":
                id = len(admitted)
                queue.admit(id, argument, request_lengths)
                admitted[id] = (argument, request_lengths)
            case "cancel":
                if queue.cancel(argument):
                    cancelled.add(argument)
            case "batch":
                take()
            case "settle" if under_way:
                ended.update(queue.settle(under_way.pop(0)))
    while take():
        pass
    for batch in under_way:
        ended.update(queue.settle(batch))

    assert ended == Counter(set(admitted) - cancelled)
    assert all(times == 1 for times in computed.values())
    finished = {(id, index) for id in ended for index in range(len(admitted[id][1]))}
    assert finished <= computed.keys()
    assert (queue.requests, queue.waiting_rows, queue.waiting_tokens) == (0, 0, 0)


@given(many=st.lists(lengths, min_size=1, max_size=8))
def test_waiting_is_counted_exactly(many):
    queue = make_queue()
    for id, request_lengths in enumerate(many):
        queue.admit(id, "a", request_lengths)
    waiting = [length for request_lengths in many for length in request_lengths]
    while True:
        assert (queue.waiting_rows, queue.waiting_tokens) == (len(waiting), sum(waiting))
        batch = queue.next_batch()
        if batch is None:
            return
        for place in batch.places:
            waiting.remove(place.length)


def test_a_query_waits_for_one_batch_of_a_huge_request_only():
    queue = make_queue()
    queue.admit(1, "a", [100] * 2000)
    assert {place.request for place in queue.next_batch().places} == {1}
    queue.admit(2, "a", [8])
    batch = queue.next_batch()
    assert [place.request for place in batch.places] == [2]
    assert queue.settle(batch) == (2,)


def test_a_stream_of_queries_does_not_starve_a_huge_request():
    queue = make_queue()
    queue.admit(0, "a", [100] * 50)
    for id in range(1, 40):
        queue.admit(id, "a", [8])
        queue.settle(queue.next_batch())
    assert queue.waiting_rows < 20


def test_rows_of_like_length_from_several_requests_share_a_batch():
    queue = make_queue()
    for id in range(20):
        queue.admit(id, "a", [20 + id % 3])
    (batch,) = drain(queue)
    assert {place.request for place in batch.places} == set(range(20))


def test_the_nearest_lengths_are_taken_first():
    queue = make_queue(batch_tokens=100)
    for id, length in enumerate([20, 12, 19, 21, 5, 18, 20]):
        queue.admit(id, "a", [length])
    assert [place.length for place in queue.next_batch().places] == [20, 20, 19, 18, 12]
    assert [place.length for place in queue.next_batch().places] == [21, 5]


def test_longer_rows_join_where_there_is_room():
    queue = make_queue(batch_tokens=100)
    for id, length in enumerate([20, 22, 24, 26, 60]):
        queue.admit(id, "a", [length])
    assert [place.length for place in queue.next_batch().places] == [24, 22, 20]


def test_a_short_row_does_not_pay_for_a_long_one():
    queue = make_queue()
    queue.admit(1, "a", [200, 10])
    assert [batch.padded_tokens for batch in drain(queue)] == [200, 10]


def test_models_do_not_mix():
    queue = make_queue()
    queue.admit(1, "a", [10])
    queue.admit(2, "b", [10])
    assert [batch.lane for batch in drain(queue)] == ["a", "b"]


def test_a_row_over_the_budget_runs_alone():
    queue = make_queue(batch_tokens=64)
    queue.admit(1, "a", [300, 300])
    assert [len(batch.places) for batch in drain(queue)] == [1, 1]


def test_one_request_too_many_is_refused_with_a_time_to_come_back():
    queue = make_queue(requests=2)
    queue.admit(1, "a", [500])
    queue.admit(2, "a", [4500])
    queue.observe(500, 0.5)  # 1000 tokens/s, as assumed at the start
    with pytest.raises(Overloaded) as refusal:
        queue.admit(3, "a", [1])
    assert refusal.value.retry_after == pytest.approx(5.0)
    assert queue.cancel(1)
    queue.admit(3, "a", [1])


def test_tokens_over_the_bound_are_refused():
    queue = make_queue(tokens=1000)
    queue.admit(1, "a", [600])
    with pytest.raises(Overloaded):
        queue.admit(2, "a", [401])
    with pytest.raises(PayloadTooLarge):
        queue.admit(3, "a", [500, 501])
    queue.admit(4, "a", [400])
    assert queue.requests == 2


def test_a_cancelled_request_is_not_settled():
    queue = make_queue()
    queue.admit(1, "a", [10, 300])
    batch = queue.next_batch()
    assert queue.cancel(1)
    assert not queue.cancel(1)
    assert queue.settle(batch) == ()
    assert queue.next_batch() is None
