"""Streams cut in the middle: the next candidate goes on from the partial text, nothing is lost, nothing
comes twice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.errors import Unavailable, WorkerLost
from appliance.records import JsonConstraint, SamplingParams, TextPrompt
from tests.faults.routing_cuts import cut_streams
from tests.routing.conftest import platform, request, routing, run
from tests.routing.peers import Heard, Speaker, hear, make_router
from tests.upstream.behaviour import CUTS, Behaviour, make_text
from tests.upstream.service import Service

StartService = Callable[..., Service]
TEXT = make_text(4)
CUT = Behaviour(cut_after=77, ending="close")


def heard_after(service: Service, speaker: Speaker | None, how: dict[str, Any], **asked: Any) -> Heard:
    router = make_router(routing(platform("cloud", service), **how), speaker)
    return run(hear(router, request(**asked)))


@pytest.mark.parametrize("ending", CUTS)
def test_every_cut_goes_on_locally(start_service: StartService, ending: Any) -> None:
    service = start_service(Behaviour(cut_after=77, ending=ending), text=TEXT)
    speaker = Speaker(TEXT)
    heard = heard_after(service, speaker, {})
    assert heard.error is None
    assert heard.text == TEXT
    assert heard.finishes == ["stop"]
    assert speaker.asked[0][1] == TEXT[:77]
    assert heard.route is not None
    (mark,) = heard.route.continuations
    assert (mark.characters, mark.model) == (77, "small")
    assert heard.outcomes[-1] == "ok"
    assert len(heard.outcomes) == 2


def test_goes_on_with_the_next_platform_by_prefix_or_echo(start_service: StartService) -> None:
    for continues in ("prefix", "echo"):
        first = start_service(CUT, text=TEXT)
        second = start_service(text=TEXT, continues=continues)
        router = make_router(
            routing(
                platform("first", first),
                platform("never", first, type="openai", model={"quality": 80}),
                platform("second", second, model={"quality": 70, "continuation": continues}),
            ),
            None,
        )
        heard = run(hear(router, request()))
        assert heard.text == TEXT
        assert heard.route is not None
        assert heard.route.model == "second"
        assert heard.ended is not None
        assert heard.ended.usage.completion_tokens > 7


def test_cut_three_times_over(start_service: StartService) -> None:
    services = [
        start_service(Behaviour(cut_after=after, ending="reset"), text=TEXT) for after in (50, 30, 20)
    ]
    platforms = [
        platform(f"p{number}", service, model={"quality": 90 - number})
        for number, service in enumerate(services)
    ]
    heard = run(hear(make_router(routing(*platforms), Speaker(TEXT)), request()))
    assert heard.text == TEXT
    assert heard.route is not None
    assert [mark.characters for mark in heard.route.continuations] == [50, 80, 100]


def test_cut_after_the_whole_text_adds_nothing(start_service: StartService) -> None:
    first = start_service(Behaviour(cut_after=len(TEXT), ending="close"), text=TEXT)
    second = start_service(text=TEXT)
    settings = routing(platform("a", first), platform("b", second, model={"quality": 80}))
    heard = run(hear(make_router(settings, None), request()))
    assert heard.error is None
    assert (heard.text, heard.finishes) == (TEXT, ["stop"])


def test_text_prompt_goes_on_at_its_end(start_service: StartService) -> None:
    service = start_service(CUT, text=TEXT)
    model = {"capabilities": ["completions"]}
    speaker = Speaker(TEXT[77:])
    router = make_router(routing(platform("cloud", service, model=model)), speaker)
    heard = run(hear(router, request(prompt=TextPrompt(text="Once "))))
    assert heard.text == TEXT
    assert speaker.asked[0][0].prompt == TextPrompt(text="Once " + TEXT[:77])
    assert speaker.asked[0][1] == ""


def test_tokens_that_are_used_up_are_not_given_again(start_service: StartService) -> None:
    service, speaker = start_service(CUT, text=TEXT), Speaker(TEXT)
    heard = heard_after(service, speaker, {}, sampling=SamplingParams(max_tokens=1000))
    assert heard.text == TEXT
    given = speaker.asked[0][0].sampling.max_tokens
    assert given == 1000 - len(service.requests[0].sent)

    service, speaker = start_service(CUT, text=TEXT), Speaker(TEXT)
    heard = heard_after(service, speaker, {}, sampling=SamplingParams(max_tokens=3))
    assert (heard.text, heard.finishes) == (TEXT[:77], ["length"])


@pytest.mark.parametrize(
    ("how", "asked", "words"),
    [
        ({"continue_cut": False}, {}, "the settings forbid it"),
        ({}, {"choices": 2}, "several choices"),
        ({"fallback": False}, {"model": "cloud"}, "no other model can"),
    ],
)
def test_what_cannot_go_on_is_a_typed_error(
    start_service: StartService, how: dict[str, Any], asked: dict[str, Any], words: str
) -> None:
    heard = heard_after(start_service(CUT, text=TEXT), Speaker(TEXT), how, **asked)
    assert isinstance(heard.error, Unavailable)
    assert heard.error.detail_code == "answer_cut"
    assert words in heard.error.message
    assert heard.text == TEXT[:77]


def test_bound_text_does_not_go_on(start_service: StartService) -> None:
    service = start_service(CUT, text=TEXT)
    settings = routing(platform("cloud", service, model={"capabilities": ["schema"]}))
    heard = run(hear(make_router(settings, Speaker(TEXT)), request(constraint=JsonConstraint())))
    assert heard.error is not None
    assert "schema" in heard.error.message


def test_a_hundred_cut_streams_lose_and_double_nothing() -> None:
    found = run(cut_streams(100, seed=1))
    assert (found.lost, found.doubled, found.wrong) == (0, 0, 0)
    assert found.continued >= 80


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.text(
        st.characters(exclude_categories=["Cs"]) | st.sampled_from("\r\n\x00\u2028\ufeff👩‍👧"),
        min_size=2,
        max_size=80,
    ),
    part=st.floats(0.01, 0.99),
    ending=st.sampled_from([each for each in CUTS if each != "stall"]),
    dribble=st.sampled_from([0, 1, 7]),
)
def test_any_text_survives_any_cut(
    start_service: StartService, text: str, part: float, ending: Any, dribble: int
) -> None:
    after = max(1, int(len(text) * part))
    service = start_service(Behaviour(cut_after=after, ending=ending, dribble=dribble), text=text)
    heard = heard_after(service, Speaker(text), {})
    assert heard.error is None
    assert heard.text == text


@pytest.mark.parametrize("max_tokens", [None, 1, 10_000])
def test_an_answer_that_had_its_end_ends_once(max_tokens: int | None) -> None:
    """The worker dies between the last token and the count of tokens: nothing of the text is missing."""
    speaker = Speaker(TEXT, error=WorkerLost("the worker died"), breaks_at_end=True)
    router = make_router(routing(), speaker)
    heard = run(hear(router, request(model="small", sampling=SamplingParams(max_tokens=max_tokens))))
    assert heard.error is None
    assert heard.text == TEXT
    assert heard.finishes == ["stop"]
    assert heard.ended is not None
    assert heard.ended.usage.completion_tokens > 0
    assert len(speaker.asked) == 1
