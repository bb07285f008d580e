"""Who is next, over owners and classes."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from appliance.llm.fair_queue import FairQueue
from appliance.llm.sequence import Sequence
from appliance.records import SamplingParams, SchedulingClass


def sequence(request: int, owner: str = "", klass: SchedulingClass = "default", length: int = 10) -> Sequence:
    return Sequence(
        request=request,
        choice=0,
        prompt=[0] * length,
        sampling=SamplingParams(),
        seed=0,
        limit=length + 10,
        owner=owner,
        scheduling_class=klass,
    )


def taken(queue: FairQueue, count: int) -> list[Sequence]:
    out = []
    for _ in range(count):
        first = next(iter(queue))
        queue.take(first)
        out.append(first)
    return out


def test_one_owner_is_first_come_first_served() -> None:
    queue = FairQueue()
    for request in range(6):
        queue.add(sequence(request))
    assert [s.request for s in taken(queue, 6)] == list(range(6))


def test_a_crowd_of_one_owner_does_not_keep_another_waiting() -> None:
    queue = FairQueue()
    for request in range(1000):
        queue.add(sequence(request, "many"))
    queue.add(sequence(1000, "one"))
    assert 1000 in [s.request for s in taken(queue, 2)]


def test_who_has_had_much_lately_waits_for_others() -> None:
    queue = FairQueue()
    for request in range(4):
        queue.add(sequence(request, "greedy", length=5000))
    taken(queue, 2)
    for request in range(10, 14):
        queue.add(sequence(request, "modest"))
    assert [s.request for s in taken(queue, 4)] == [10, 11, 12, 13]


def test_higher_classes_go_first_and_lower_ones_do_not_starve() -> None:
    queue = FairQueue()
    for request in range(400):
        queue.add(sequence(request, klass="batch" if request % 2 else "default"))
    first = Counter(s.scheduling_class for s in taken(queue, 100))
    assert first["default"] > 90
    assert first["batch"] >= 1


def test_idleness_saves_up_no_claim() -> None:
    queue = FairQueue()
    queue.add(sequence(0, "early"))
    taken(queue, 1)
    for request in range(1, 50):
        queue.add(sequence(request, "steady"))
    taken(queue, 40)
    for request in range(100, 120):
        queue.add(sequence(request, "early"))
    owners = Counter(s.owner for s in taken(queue, 10))
    assert owners["steady"] >= 4


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["add", "take", "remove", "back", "first"]),
            st.sampled_from("abc"),
            st.sampled_from(["priority", "default", "batch"]),
            st.integers(1, 500),
        ),
        max_size=60,
    )
)
def test_nobody_is_lost_or_doubled(
    operations: list[tuple[str, str, SchedulingClass, int]],
) -> None:
    queue, waiting, away = FairQueue(), set[int](), list[Sequence]()
    for request, (operation, owner, klass, length) in enumerate(operations):
        if operation == "add":
            queue.add(sequence(request, owner, klass, length))
            waiting.add(request)
        elif operation in ("take", "remove") and waiting:
            chosen = next(iter(queue))
            (queue.take if operation == "take" else queue.remove)(chosen)
            waiting.remove(chosen.request)
            if operation == "take":
                away.append(chosen)
        elif operation in ("back", "first") and away:
            returning = away.pop()
            first = next(iter(queue), None)
            if operation == "back" or first is None or first.scheduling_class == returning.scheduling_class:
                queue.put_back(returning)
            else:
                queue.give_way(returning, first)
                assert next(iter(queue)) is first
            waiting.add(returning.request)
        order = list(queue)
        assert len(order) == len(queue) == len(waiting)
        assert {s.request for s in order} == waiting
        assert queue.tokens == sum(s.prompt_length for s in order)
        assert len(queue._flows) <= 9
