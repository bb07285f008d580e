"""keep_alive as clients write it."""

from __future__ import annotations

import math

import pytest

from appliance.errors import InvalidValue
from appliance.residency.keep_alive import parse


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (0, 0.0),
        ("0", 0.0),
        (90, 90.0),
        (2.5, 2.5),
        ("90", 90.0),
        ("1.5", 1.5),
        ("250ms", 0.25),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        (" 2d ", 172_800.0),
        (-1, math.inf),
        ("-1", math.inf),
        ("-1m", math.inf),
        (1e12, math.inf),
    ],
)
def test_seconds_and_durations_are_understood(value: float | str, seconds: float) -> None:
    assert parse(value) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "soon", "5 minutes", "5m5", "m", "1e3", "--1", "5m-3s", "9" * 40])
def test_what_is_no_duration_is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        parse(text)
    assert caught.value.param == "keep_alive"
