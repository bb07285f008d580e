from __future__ import annotations

import numpy as np
import pytest

from appliance.knowledge.filters import Comparison, Compound, Filter, holds
from appliance.knowledge.fusion import blended, fed_back, reciprocal, scaled


def test_scores_are_brought_to_one_scale() -> None:
    assert scaled({1: 5.0, 2: 10.0, 3: 7.5}) == {1: 0.0, 2: 1.0, 3: 0.5}
    assert scaled({1: 3.0}) == {1: 1.0}
    assert scaled({}) == {}


def test_reciprocal_ranks_look_at_the_order_only() -> None:
    assert reciprocal({7: 0.1, 8: 99.0}) == {8: 1 / 11, 7: 1 / 12}


def test_a_blend_is_ordered_and_weighted() -> None:
    total = blended([(1.0, {1: 1.0, 2: 0.5}), (2.0, {2: 1.0, 3: 0.1})])
    assert list(total) == [2, 1, 3]
    assert total[2] == 2.5


def test_feedback_moves_towards_what_scored_best() -> None:
    query = np.array([1, 0, 0], np.float32)
    found = np.array([[0, 1, 0], [0, 0, 1]], np.float32)
    moved = fed_back(query, found, np.array([1.0, 0.0], np.float32), 0.1)
    assert np.linalg.norm(moved) == pytest.approx(1)
    assert moved[0] > 0.6
    assert moved[1] > 100 * moved[2]


ATTRIBUTES = {"year": 1999.0, "author": "Ada", "draft": False}


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        (Comparison("eq", "author", "Ada"), True),
        (Comparison("eq", "author", "ada"), False),
        (Comparison("eq", "missing", "x"), False),
        (Comparison("ne", "missing", "x"), True),
        (Comparison("eq", "draft", False), True),
        (Comparison("eq", "draft", 0), False),
        (Comparison("eq", "year", 1999), True),
        (Comparison("gt", "year", 1998), True),
        (Comparison("gt", "year", 1999), False),
        (Comparison("gte", "year", 1999), True),
        (Comparison("lt", "year", 2000), True),
        (Comparison("lte", "year", 1998), False),
        (Comparison("gt", "author", 3), False),
        (Comparison("gt", "author", "Abe"), True),
        (Comparison("in", "year", (1, 1999)), True),
        (Comparison("nin", "year", (1, 1999)), False),
        (Comparison("nin", "missing", ("a",)), True),
        (Compound("and", (Comparison("eq", "author", "Ada"), Comparison("gt", "year", 2000))), False),
        (Compound("or", (Comparison("eq", "author", "Ada"), Comparison("gt", "year", 2000))), True),
        (Compound("and", ()), True),
    ],
)
def test_filters(filter: Filter, expected: bool) -> None:
    assert holds(filter, dict(ATTRIBUTES)) is expected
