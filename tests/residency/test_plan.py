"""Who leaves for whom: the arithmetic of memory, without a model or a clock."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from appliance.residency.plan import Fits, Refusal, Resident, Waits, plan


def resident(name: str, bytes: int, last_used: float, **flags: bool) -> Resident:
    return Resident(name, bytes, last_used, **flags)


def test_what_fits_beside_the_others_moves_nobody() -> None:
    assert plan(100, [resident("a", 40, 1), resident("b", 40, 2)], 20) == Fits()


def test_the_longest_unused_leaves_first() -> None:
    residents = [resident("new", 40, 3), resident("old", 40, 1), resident("middle", 20, 2)]
    assert plan(100, residents, 40) == Fits(("old",))
    assert plan(100, residents, 60) == Fits(("old", "middle"))


def test_a_small_model_stays_when_a_large_one_must_leave_anyway() -> None:
    residents = [resident("small", 10, 1), resident("large", 80, 2)]
    assert plan(100, residents, 80) == Fits(("large",))


def test_a_pinned_or_busy_model_never_leaves() -> None:
    residents = [resident("pinned", 40, 1, pinned=True), resident("busy", 40, 2, busy=True)]
    assert plan(100, [*residents, resident("idle", 20, 3)], 20) == Fits(("idle",))
    assert plan(100, residents, 40) == Waits(("busy",))


def test_a_busy_model_is_waited_for_only_as_far_as_idle_ones_do_not_suffice() -> None:
    residents = [
        resident("idle", 30, 1),
        resident("first", 30, 2, busy=True),
        resident("second", 30, 3, busy=True),
    ]
    assert plan(100, residents, 60) == Waits(("first",))


def test_what_pins_leave_no_room_for_is_refused_with_the_numbers() -> None:
    residents = [resident("pinned", 60, 1, pinned=True), resident("other", 10, 2)]
    assert plan(100, residents, 50) == Refusal(50, 100, ("pinned",), 60)


def test_what_is_larger_than_the_budget_is_refused() -> None:
    assert plan(100, [], 101) == Refusal(101, 100)


def test_memory_of_a_model_that_is_leaving_counts_as_free() -> None:
    assert plan(100, [resident("gone soon", 100, 1, leaving=True)], 100) == Fits()


RESIDENTS = st.lists(
    st.builds(
        Resident,
        name=st.uuids().map(str),
        bytes=st.integers(1, 60),
        last_used=st.floats(0, 100),
        pinned=st.booleans(),
        busy=st.booleans(),
        leaving=st.booleans(),
    ),
    max_size=8,
)


@given(st.integers(0, 200), RESIDENTS, st.integers(1, 250))
def test_a_plan_frees_enough_and_no_more(budget: int, residents: list[Resident], wanted: int) -> None:
    by_name = {each.name: each for each in residents}
    held = sum(each.bytes for each in residents if not each.leaving)
    match plan(budget, residents, wanted):
        case Fits(evictions=evictions):
            leaving = [by_name[name] for name in evictions]
            assert not [each for each in leaving if each.pinned or each.busy or each.leaving]
            left = held - sum(each.bytes for each in leaving)
            assert left + wanted <= budget
            assert all(left + each.bytes + wanted > budget for each in leaving), "one left for nothing"
        case Waits(busy=busy):
            assert busy
            assert all(by_name[name].busy and not by_name[name].pinned for name in busy)
        case Refusal(pinned=pinned):
            assert wanted + sum(by_name[name].bytes for name in pinned) > budget
