from __future__ import annotations

from tui.history import SECONDS, SPACING, History, Sample


def sample(at: float) -> Sample:
    return Sample(at, at, None, None, 0, 0, 0)


def times(history: History) -> list[float]:
    return [each.at for each in history.samples]


def test_samples_are_no_closer_than_a_plot_can_show() -> None:
    history = History()
    for step in range(21):
        history.add(sample(100 + step * 0.05))
    assert times(history) == [100, 100 + SPACING, 100 + 2 * SPACING]


def test_old_samples_leave_and_a_clock_that_goes_back_stops_nothing() -> None:
    history = History()
    history.add(sample(100))
    history.add(sample(100 + SECONDS + 1))
    assert times(history) == [101 + SECONDS]
    history.add(sample(50))
    assert times(history)[-1] == 50


def test_what_the_server_remembers_fills_the_gaps_and_nothing_else() -> None:
    history = History()
    for at in (1000.0, 1001.0, 1040.0):
        history.add(sample(at))
    past = [sample(at) for at in (300.0, 990.0, 996.0, 1003.0, 1020.0, 1038.0)]
    history.fill(past, 5.0)
    assert times(history) == [990, 1000, 1001, 1020, 1040]
    history.fill(past, 5.0)
    assert times(history) == [990, 1000, 1001, 1020, 1040]
