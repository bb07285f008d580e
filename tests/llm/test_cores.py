"""Fewer threads while they have to wait for a core; the system's counter is played here."""

from __future__ import annotations

import hashlib
import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from appliance.llm.cores import LONGEST_RETREAT, PATIENCE, SHORTEST_RETREAT, WINDOW, FreeCores, read_waiting


class Machine:
    """A machine on which the threads wait for `lost` cores' worth of the time that they compute."""

    def __init__(self, most: int = 4) -> None:
        self.waited = 0.0
        self.lost = 0.0
        self.cores = FreeCores(most, lambda: self.waited)

    def crowd(self, lost: float) -> bool:
        """Others come, and stay for as long as it takes to be believed."""
        self.lost = lost
        return [self.compute() for _ in range(PATIENCE)][-1]

    def compute(self, seconds: float = WINDOW) -> bool:
        self.waited += self.lost * seconds
        return self.cores.computed(seconds)


def test_a_quiet_machine_gives_all_cores() -> None:
    machine = Machine()
    machine.lost = 0.1
    assert not any(machine.compute() for _ in range(100))
    assert machine.cores.count == 4


def test_threads_that_wait_are_left_out() -> None:
    machine = Machine()
    assert machine.crowd(1.6)
    assert machine.cores.count == 2


def test_one_always_computes_and_one_at_least_gives_way() -> None:
    machine = Machine(2)
    machine.crowd(5.0)
    assert machine.cores.count == 1
    machine = Machine(2)
    machine.crowd(0.6)
    assert machine.cores.count == 1


def test_all_are_tried_again_after_a_while() -> None:
    machine = Machine(2)
    machine.crowd(1.0)
    machine.lost = 0.0
    windows = 1
    while not machine.compute():
        windows += 1
    assert machine.cores.count == 2
    assert windows * WINDOW <= SHORTEST_RETREAT + 1.5 * WINDOW


def test_where_others_stay_it_is_tried_more_rarely() -> None:
    machine = Machine(2)
    machine.lost = 1.0
    full = 0
    for _ in range(int(200 / WINDOW)):
        full += machine.cores.count == 2
        machine.compute()
    assert 200 / LONGEST_RETREAT <= full <= 24


def test_a_short_crowd_is_waited_out() -> None:
    machine = Machine(2)
    for _ in range(20):
        machine.lost = 2.0
        machine.compute()
        machine.lost = 0.0
        machine.compute()
    assert machine.cores.count == 2


def test_short_steps_are_taken_together() -> None:
    machine = Machine(2)
    machine.lost = 2.0
    assert not machine.compute(WINDOW / 4)
    assert not machine.compute(WINDOW / 4)
    assert machine.cores.count == 2


def test_without_a_counter_nothing_changes() -> None:
    cores = FreeCores(3, lambda: None)
    assert not cores.computed(100.0)
    assert cores.count == 3


def test_one_thread_is_never_changed() -> None:
    machine = Machine(1)
    machine.lost = 9.0
    assert not machine.compute()


@pytest.mark.skipif(read_waiting() is None, reason="this system does not count")
def test_two_threads_on_one_core_wait_for_it() -> None:
    """pbkdf2 computes without the interpreter's lock."""
    before, cores = read_waiting(), os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        with ThreadPoolExecutor(2) as pool:
            for _ in range(2):
                pool.submit(hashlib.pbkdf2_hmac, "sha256", b"a", b"b", 300_000)
            time.sleep(0.1)
            now = read_waiting()
    finally:
        os.sched_setaffinity(0, cores)
    assert before is not None
    assert now is not None
    assert now - before > 0.01
