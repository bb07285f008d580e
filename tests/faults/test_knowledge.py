"""Short runs of the fault scripts; `make bench` runs them in full."""

from __future__ import annotations

from tests.conftest import require
from tests.faults import knowledge_damage, knowledge_kills
from tests.serving import EMBED


def test_kills_lose_nothing() -> None:
    require((EMBED,))
    tally = knowledge_kills.run(count=3, seed=11)
    assert tally.kills == 3
    assert tally.acknowledged > 0
    assert (tally.lost, tally.mismatches, tally.problems) == (0, 0, [])


def test_damaged_indexes_are_refused() -> None:
    total = knowledge_damage.run(count=60, seed=3)
    assert total["cases"] == 60
    assert total["refused"] > 40
    assert (total["wrong"], total["crashes"]) == (0, 0)
