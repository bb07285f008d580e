"""The list of what is under way, and the figures of the last seconds."""

from __future__ import annotations

import pytest

from appliance.activity import RATE_SECONDS, Activities, request_id


def test_an_activity_is_listed_while_it_lasts() -> None:
    activities = Activities()
    token = request_id.set("req-1")
    with activities.begin("generate", "m") as activity:
        assert activities.under_way() == (activity,)
        assert (activity.request, activity.model, activity.phase) == ("req-1", "m", "loading")
    request_id.reset(token)
    assert activities.under_way() == ()


def test_cancelling_ends_what_is_waited_for_now() -> None:
    activities, ended = Activities(), []
    token = request_id.set("req-1")
    with activities.begin("generate", "m") as first, activities.begin("generate", "m") as second:
        first.end = lambda: ended.append(1)
        second.end = lambda: ended.append(2)
        assert activities.cancel(second.id) == 1
        assert (ended, second.is_cancelled, first.is_cancelled) == ([2], True, False)
        assert activities.cancel("req-1") == 2, "all activities of one request"
        assert activities.cancel("") == 0
        assert activities.cancel("req-2") == 0
    request_id.reset(token)


def test_speed_is_the_mean_of_the_last_whole_seconds() -> None:
    now = 100.0
    activities = Activities(lambda: now)
    with activities.begin("generate", "m") as activity:
        for second in range(3):
            now = 100.0 + second
            activities.count_tokens(activity, 10)
            activities.count_tokens(activity, 10)
        assert activity.tokens == 60
        now = 103.5
        assert activities.speed("m").tokens_per_second == pytest.approx(60 / RATE_SECONDS)
        now = 100.0 + 2 * RATE_SECONDS
        assert activities.speed("m").tokens_per_second == 0
    assert activities.speed("other").tokens_per_second == 0


def test_first_token_times_are_told_as_quantiles() -> None:
    activities = Activities()
    assert activities.speed("m").first_token_p50 is None
    for number in range(100):
        activities.count_first_token("m", number / 100)
    speed = activities.speed("m")
    assert (speed.first_token_p50, speed.first_token_p99, speed.answers) == (0.5, 0.99, 100)
